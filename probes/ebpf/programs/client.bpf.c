/*
 * Functions of the CVMFS client's library, by their number in probes/ebpf/client.py (CLIENT_*). All are members: the first argument is the
 * object. They may be entered by a client that is not observed but uses the same file.
 */

struct client_key {
  u32 tid;
  u32 function;
};
struct client_call {
  u64 ts;
  u64 argument;
  u64 object;
  u32 tgid;
  u32 pad;
};
BPF_HASH(client_calls, struct client_key, struct client_call, 4096);

/* The begin of the quota manager, before a clean-up and after. One word of it is the size of the cache; which one differs by
   version, but it is the only one that a clean-up makes smaller and that was above the bound before. */
#define QUOTA_WORDS 24
struct quota_manager {
  u64 word[QUOTA_WORDS];
};
BPF_HASH(quota_managers, u32, struct quota_manager, 64);
BPF_PERCPU_ARRAY(quota_scratch, struct quota_manager, 1);

static __always_inline struct quota_manager *read_quota_manager(u64 object) {
  u32 zero = 0;
  struct quota_manager *now = quota_scratch.lookup(&zero);
  if (!now || read_user(now, sizeof(*now), (void *)object))
    return 0;
  return now;
}

static __always_inline int client_enter(struct pt_regs *ctx, u32 function) {
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32, tid = pid_tgid;
  if (role_of_current(tgid) != ROLE_DAEMON)
    return 0;
  struct client_key key = {.tid = tid, .function = function};
  struct client_call call = {.object = PT_REGS_PARM1(ctx), .argument = PT_REGS_PARM2(ctx), .tgid = tgid};
  if (function == CLIENT_CLEANUP) {
    struct quota_manager *before = read_quota_manager(call.object);
    if (before)
      quota_managers.update(&tid, before);
  }
  call.ts = bpf_ktime_get_ns();
  if (client_calls.update(&key, &call))
    count_loss(function == CLIENT_FETCH      ? KIND_FETCH_CALL
               : function == CLIENT_DOWNLOAD ? KIND_DOWNLOAD_CALL
               : function == CLIENT_CLEANUP  ? KIND_CLEANUP
                                             : KIND_BACKOFF);
  return 0;
}

static __always_inline void emit_cleanup(struct client_call *call, u32 tid, u64 dur, s32 ret) {
  u64 freed = 0, remaining = 0;
  u32 shrunk = 0;
  struct quota_manager *before = quota_managers.lookup(&tid);
  struct quota_manager *after = before ? read_quota_manager(call->object) : 0;
  if (after) {
#pragma unroll
    for (u32 i = 0; i < QUOTA_WORDS; i++)
      if (before->word[i] > call->argument && after->word[i] < before->word[i]) {
        freed = before->word[i] - after->word[i];
        remaining = after->word[i];
        shrunk++;
      }
  }
  if (before)
    quota_managers.delete(&tid);
  if (!after || shrunk > 1)
    freed = remaining = NOT_KNOWN;
  emit(KIND_CLEANUP, call->tgid, tid, call->ts, dur, ret, call->argument, freed, remaining);
}

static __always_inline int client_exit(struct pt_regs *ctx, u32 function) {
  u64 now = bpf_ktime_get_ns();
  struct client_key key = {.tid = (u32)bpf_get_current_pid_tgid(), .function = function};
  struct client_call *call = client_calls.lookup(&key);
  if (!call)
    return 0;
  u64 dur = now - call->ts;
  s32 ret = PT_REGS_RC(ctx);
  if (function == CLIENT_FETCH)
    emit(KIND_FETCH_CALL, call->tgid, key.tid, call->ts, dur, ret, 0, 0, 0);
  else if (function == CLIENT_DOWNLOAD)
    emit(KIND_DOWNLOAD_CALL, call->tgid, key.tid, call->ts, dur, ret, call->argument, 0, 0);
  else if (function == CLIENT_CLEANUP)
    emit_cleanup(call, key.tid, dur, ret & 0xff); /* a bool */
  else
    emit(KIND_BACKOFF, call->tgid, key.tid, call->ts, dur, 0, function == CLIENT_BACKOFF ? call->argument : 0, 0, 0);
  client_calls.delete(&key);
  return 0;
}

int client_enter_any(struct pt_regs *ctx) {
  return client_enter(ctx, bpf_get_attach_cookie(ctx));
}

int client_exit_any(struct pt_regs *ctx) {
  return client_exit(ctx, bpf_get_attach_cookie(ctx));
}
