/* Pages of files on the observed mounts that the target touches, through mappings and through read(). */

static __always_inline void emit_pages(u16 kind, u32 dev, u64 inode, u64 index, u64 last_index) {
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
  emit(kind, tgid, (u32)pid_tgid, bpf_ktime_get_ns(), 0, 0, *st_dev, inode, index);
}

TRACEPOINT_PROBE(filemap, mm_filemap_fault) {
  emit_pages(KIND_FAULT, args->s_dev, args->i_ino, args->index, args->index);
  return 0;
}

TRACEPOINT_PROBE(filemap, mm_filemap_get_pages) {
  emit_pages(KIND_PAGE_READ, args->s_dev, args->i_ino, args->index, args->last_index);
  return 0;
}

TRACEPOINT_PROBE(filemap, mm_filemap_map_pages) {
  emit_pages(KIND_PAGE_MAP, args->s_dev, args->i_ino, args->index, args->last_index);
  return 0;
}
