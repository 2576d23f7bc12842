/* The calls that threads are in, and the role of the thread at work. */

/* Open calls. A slot stays the last thread's until that ends, which saves it the search for its role. */
BPF_F_TABLE("array", u32, struct call, calls, THREAD_SLOTS, BPF_F_MMAPABLE);
BPF_HASH(calls_displaced, u32, struct call, DISPLACED_SLOTS);

/*
 * Newer compilers (clang 19, with which Debian 13 builds bcc) compute the address of a member before the check that the pointer is not
 * null, which the kernel refuses. This keeps the use of a pointer behind its check.
 */
#define keep_after_check(pointer) asm volatile("" : "+r"(pointer))

/* How often something found its slot taken: usually never, so that nothing has to be looked for in a hash. */
BPF_ARRAY(displacements, u64, 3);

static __always_inline void displace(u32 what) {
  u64 *count = displacements.lookup(&what);
  if (count)
    *count += 1;
}

static __always_inline int any_displaced(u32 what) {
  u64 *count = displacements.lookup(&what);
  return count && *count;
}

/* The role of the thread at work, which its slot knows if it has made a call that is watched. */
static __always_inline u32 current_role() {
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tid = pid_tgid, slot = tid & (THREAD_SLOTS - 1);
  struct call *call = calls.lookup(&slot);
  return call && call->tid == tid ? call->role : role_of_current(pid_tgid >> 32);
}
