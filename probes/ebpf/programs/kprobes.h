/* For programs on kprobes: reading what the kernel's pointers point to. */

static long (*read_kernel)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_kernel;

/* 0 where that cannot be read: reading on from there fails, too, and yields 0. */
static __always_inline u64 read_pointer(u64 address) {
  u64 value = 0;
  read_kernel(&value, sizeof(value), (void *)address);
  return value;
}
