/* FUSE requests as the kernel sees them, on the observed mounts: sent by the thread that wants the data, ended by the reply. */

struct request_key {
  u64 unique;
  u64 connection;
};
struct request {
  u64 ts;
  u32 tgid, tid;
  u32 opcode, len;
};
BPF_HASH(requests, struct request_key, struct request, 65536);

TRACEPOINT_PROBE(fuse, fuse_request_send) {
  u32 connection = args->connection;
  if (!devices.lookup(&connection))
    return 0;
  u64 pid_tgid = bpf_get_current_pid_tgid();
  struct request_key key = {.unique = args->unique, .connection = connection};
  struct request sent = {.ts = bpf_ktime_get_ns(), .tgid = pid_tgid >> 32, .tid = pid_tgid,
                         .opcode = args->opcode, .len = args->len};
  if (requests.update(&key, &sent))
    count_loss(KIND_FUSE_SEND);
  return 0;
}

TRACEPOINT_PROBE(fuse, fuse_request_end) {
  u32 connection = args->connection;
  struct request_key key = {.unique = args->unique, .connection = connection};
  struct request *sent = requests.lookup(&key);
  if (!sent)
    return 0;
  emit(KIND_FUSE_SEND, sent->tgid, sent->tid, sent->ts, bpf_ktime_get_ns() - sent->ts, args->error, key.unique,
       connection & 0xfffff, ((u64)sent->opcode << 32) | sent->len);
  requests.delete(&key);
  return 0;
}
