/* FUSE requests on the observed mounts, from when the kernel sent them to when they ended: one record for each. */

/* Between the two a request is known by its unique number or, where that is given to it later, by its address. */
struct request_key {
  u64 id;
  u64 connection;
};
struct request {
  struct request_key key;
  u64 ts; /* 0: none */
  u64 unique; /* 0: not known yet */
  u32 tgid, tid;
  u32 opcode, len;
};
BPF_F_TABLE("array", u32, struct request, requests, REQUEST_SLOTS, BPF_F_MMAPABLE);
BPF_HASH(requests_displaced, struct request_key, struct request, 65536);

static __always_inline struct request *request_slot(struct request_key *key, u32 number) {
  u32 slot = (number + (u32)key->connection * 61) & (REQUEST_SLOTS - 1);
  return requests.lookup(&slot);
}

/* `connection` is the mount's dev_t as the kernel has it; `number` differs in its low bits between requests of a time. */
static __always_inline int request_sent(u32 connection, u64 id, u32 number, u64 unique, u32 opcode, u32 len) {
  if (!observed_device(connection))
    return 0;
  u64 pid_tgid = bpf_get_current_pid_tgid();
  struct request value = {.ts = bpf_ktime_get_ns(), .unique = unique, .tgid = pid_tgid >> 32, .tid = pid_tgid,
                          .opcode = opcode, .len = len};
  value.key.id = id;
  value.key.connection = connection;
  struct request *sent = request_slot(&value.key, number);
  if (sent && !sent->ts)
    *sent = value;
  else if (requests_displaced.update(&value.key, &value))
    count_loss(KIND_FUSE_SEND);
  return 0;
}

static __always_inline int request_ended(u32 connection, u64 id, u32 number, u64 unique, s32 error, u32 len) {
  struct request_key key = {.id = id, .connection = connection};
  struct request *sent = request_slot(&key, number);
  int displaced = 0;
  if (!sent || !sent->ts || sent->key.id != id || sent->key.connection != connection) {
    displaced = 1;
    sent = requests_displaced.lookup(&key);
    if (!sent)
      return 0;
  }
  emit(KIND_FUSE_SEND, sent->tgid, sent->tid, sent->ts, bpf_ktime_get_ns() - sent->ts, error, unique,
       connection & 0xfffff, ((u64)sent->opcode << 32) | (sent->len ? sent->len : len));
  if (displaced)
    requests_displaced.delete(&key);
  else
    sent->ts = 0;
  return 0;
}
