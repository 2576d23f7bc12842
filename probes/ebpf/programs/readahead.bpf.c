/*
 * Readahead on the observed mounts, begun by threads of the target: which pages, and how many of them were asked for.
 *
 * What was asked for is told before: by page_cache_sync_ra for read(), by the fault for mappings; page_cache_async_ra comes from
 * a page that a former readahead marked, so nothing of what it begins was asked for.
 */

TRACEPOINT_PROBE(readahead, page_cache_sync_ra) {
  if (used_by_target(args->s_dev))
    note_demand(bpf_get_current_pid_tgid(), args->i_ino, args->index, args->req_count);
  return 0;
}

TRACEPOINT_PROBE(readahead, page_cache_async_ra) {
  if (used_by_target(args->s_dev))
    note_demand(bpf_get_current_pid_tgid(), args->i_ino, args->index, 0);
  return 0;
}

TRACEPOINT_PROBE(readahead, page_cache_ra_unbounded) {
  u64 *st_dev = used_by_target(args->s_dev);
  if (!st_dev)
    return 0;
  u32 tid = bpf_get_current_pid_tgid(), slot = tid & (THREAD_SLOTS - 1);
  u64 first = args->index, last = first + args->nr_to_read, asked = 0;
  struct demand *demand = demands.lookup(&slot);
  if (demand && demand->tid == tid && demand->inode == args->i_ino) {
    u64 from = demand->index > first ? demand->index : first;
    u64 to = demand->index + demand->pages < last ? demand->index + demand->pages : last;
    asked = to > from ? to - from : 0;
    demand->pages = 0;
  }
  emit_pages(KIND_READAHEAD, *st_dev, args->i_ino, first, last - 1, asked);
  return 0;
}
