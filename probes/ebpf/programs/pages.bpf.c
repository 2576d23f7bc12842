/* Pages of files on the observed mounts that the target touches, through mappings and through read(). */

/* What a thread wants last, for the readahead that may follow (readahead.bpf.c). Of two threads that share a slot, only the last's. */
struct demand {
  u32 tid, pad;
  u64 inode;
  u64 index;
  u64 pages;
};
BPF_ARRAY(demands, struct demand, THREAD_SLOTS);

static __always_inline void note_demand(u32 tid, u64 inode, u64 index, u64 pages) {
  u32 slot = tid & (THREAD_SLOTS - 1);
  struct demand *demand = demands.lookup(&slot);
  if (!demand)
    return;
  demand->tid = tid;
  demand->inode = inode;
  demand->index = index;
  demand->pages = pages;
}

/* The st_dev of a device that is observed, if the target is at work. */
static __always_inline u64 *used_by_target(u32 dev) {
  u64 *st_dev = observed_device(dev);
  return st_dev && current_role() == ROLE_TARGET ? st_dev : 0;
}

static __always_inline void emit_pages(u16 kind, u64 st_dev, u64 inode, u64 index, u64 last_index, s32 ret) {
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32;
  u64 pages = last_index - index + 1;
  if (kind != KIND_FAULT)
    index |= (pages < 0xffff ? pages : 0xffff) << 48;
  emit(kind, tgid, (u32)pid_tgid, bpf_ktime_get_ns(), 0, ret, st_dev, inode, index);
}

TRACEPOINT_PROBE(filemap, mm_filemap_fault) {
  u64 *st_dev = used_by_target(args->s_dev);
  if (st_dev) {
    emit_pages(KIND_FAULT, *st_dev, args->i_ino, args->index, args->index, 0);
    note_demand(bpf_get_current_pid_tgid(), args->i_ino, args->index, 1);
  }
  return 0;
}

TRACEPOINT_PROBE(filemap, mm_filemap_get_pages) {
  u64 *st_dev = used_by_target(args->s_dev);
  if (st_dev)
    emit_pages(KIND_PAGE_READ, *st_dev, args->i_ino, args->index, args->last_index, 0);
  return 0;
}

TRACEPOINT_PROBE(filemap, mm_filemap_map_pages) {
  u64 *st_dev = used_by_target(args->s_dev);
  if (st_dev)
    emit_pages(KIND_PAGE_MAP, *st_dev, args->i_ino, args->index, args->last_index, 0);
  return 0;
}
