/* Pages of files on the observed mounts that the target touches, through mappings and through read(). */

/* What a thread wants last, for the readahead that may follow (readahead.bpf.c). */
struct demand {
  u64 inode;
  u64 index;
  u64 pages;
};
BPF_TABLE("lru_hash", u32, struct demand, demands, 16384);

static __always_inline void note_demand(u32 dev, u64 inode, u64 index, u64 pages) {
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tid = pid_tgid;
  if (!devices.lookup(&dev) || role_of(pid_tgid >> 32) != ROLE_TARGET)
    return;
  struct demand demand = {.inode = inode, .index = index, .pages = pages};
  demands.update(&tid, &demand);
}

static __always_inline void emit_pages(u16 kind, u32 dev, u64 inode, u64 index, u64 last_index, s32 ret) {
  u64 *st_dev = devices.lookup(&dev);
  if (!st_dev)
    return;
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32;
  if (role_of(tgid) != ROLE_TARGET)
    return;
  u64 pages = last_index - index + 1;
  if (kind != KIND_FAULT)
    index |= (pages < 0xffff ? pages : 0xffff) << 48;
  emit(kind, tgid, (u32)pid_tgid, bpf_ktime_get_ns(), 0, ret, *st_dev, inode, index);
}

TRACEPOINT_PROBE(filemap, mm_filemap_fault) {
  emit_pages(KIND_FAULT, args->s_dev, args->i_ino, args->index, args->index, 0);
  note_demand(args->s_dev, args->i_ino, args->index, 1);
  return 0;
}

TRACEPOINT_PROBE(filemap, mm_filemap_get_pages) {
  emit_pages(KIND_PAGE_READ, args->s_dev, args->i_ino, args->index, args->last_index, 0);
  return 0;
}

TRACEPOINT_PROBE(filemap, mm_filemap_map_pages) {
  emit_pages(KIND_PAGE_MAP, args->s_dev, args->i_ino, args->index, args->last_index, 0);
  return 0;
}
