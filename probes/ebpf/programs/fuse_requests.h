/* FUSE requests on the observed mounts, from when the kernel sent them to when they ended: one record for each. */

/* Between the two a request is known by its unique number or, where that is given to it later, by its address. */
struct request_key {
  u64 id;
  u64 connection;
};
struct request {
  u64 ts;
  u64 unique; /* 0: not known yet */
  u32 tgid, tid;
  u32 opcode, len;
};
BPF_HASH(requests, struct request_key, struct request, 65536);

/* `connection` is the mount's dev_t as the kernel has it. */
static __always_inline int request_sent(u32 connection, u64 id, u64 unique, u32 opcode, u32 len) {
  if (!devices.lookup(&connection))
    return 0;
  u64 pid_tgid = bpf_get_current_pid_tgid();
  struct request_key key = {.id = id, .connection = connection};
  struct request sent = {.ts = bpf_ktime_get_ns(), .unique = unique, .tgid = pid_tgid >> 32, .tid = pid_tgid,
                         .opcode = opcode, .len = len};
  if (requests.update(&key, &sent))
    count_loss(KIND_FUSE_SEND);
  return 0;
}

static __always_inline int request_ended(u32 connection, u64 id, u64 unique, s32 error, u32 len) {
  struct request_key key = {.id = id, .connection = connection};
  struct request *sent = requests.lookup(&key);
  if (!sent)
    return 0;
  emit(KIND_FUSE_SEND, sent->tgid, sent->tid, sent->ts, bpf_ktime_get_ns() - sent->ts, error, unique,
       connection & 0xfffff, ((u64)sent->opcode << 32) | (sent->len ? sent->len : len));
  requests.delete(&key);
  return 0;
}
