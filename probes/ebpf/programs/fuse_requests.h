/*
 * FUSE requests, from when the kernel sent them to when they ended: one record for each. Of the observed mounts those of everybody, of
 * any other connection those that threads of the target sent.
 */

BPF_F_TABLE("array", u32, struct request, requests, REQUEST_SLOTS, BPF_F_MMAPABLE);
BPF_HASH(requests_displaced, struct request_key, struct request, 65536);

/* Daemon -> the connection that it serves, as the kernel's dev_t. */
BPF_HASH(served, u32, u32, 256);

static __always_inline struct request *request_slot(struct request_key *key, u32 number) {
  u32 slot = (number + (u32)key->connection * 61) & (REQUEST_SLOTS - 1);
  return requests.lookup(&slot);
}

/* `connection` is the mount's dev_t as the kernel has it; `number` differs in its low bits between requests of a time. */
static __always_inline int request_sent(u32 connection, u64 id, u32 number, u64 unique, u32 opcode, u32 len) {
  struct device *device = known_device(connection);
  if (!connection || ((!device || !device->everybody) && current_role() != ROLE_TARGET))
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

#define CONNECTION_ABORTED -103
#define NOT_CONNECTED -107

/* Whoever ends somebody else's request has answered it, unless the connection was cut: that is the daemon, whatever its number is in the
   namespaces that the recorder sees. */
static __always_inline void note_server(u32 connection, u32 asker, s32 error) {
  u32 tgid = bpf_get_current_pid_tgid() >> 32, daemon = ROLE_DAEMON;
  struct device *device = known_device(connection);
  if (!device || !device->everybody || device->server == tgid || tgid == asker || error == CONNECTION_ABORTED ||
      error == NOT_CONNECTED)
    return;
  device->server = tgid;
  served.update(&tgid, &connection);
  if (!role_of_current(tgid)) {
    processes.update(&tgid, &daemon);
    displace(LATECOMERS);
  }
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
  note_server(connection, sent->tgid, error);
  if (!known_device(connection)) /* a mount that the recorder can ask the target about as long as both are there */
    hurry(EVENTS);
  emit(KIND_FUSE_SEND, sent->tgid, sent->tid, sent->ts, bpf_ktime_get_ns() - sent->ts, error, unique, connection,
       ((u64)sent->opcode << 32) | (sent->len ? sent->len : len));
  if (displaced)
    requests_displaced.delete(&key);
  else
    sent->ts = 0;
  return 0;
}

/* The process that sent a request, if its connection is known and requests are known by their number; else 0. */
static __always_inline u32 asker_of(u32 daemon, u64 unique) {
  u32 *connection = served.lookup(&daemon);
  if (!connection)
    return 0;
  struct request_key key = {.id = unique, .connection = *connection};
  struct request *sent = request_slot(&key, unique >> 1);
  if (sent && sent->ts && sent->key.id == unique && sent->key.connection == key.connection)
    return sent->tgid;
  sent = requests_displaced.lookup(&key);
  return sent ? sent->tgid : 0;
}
