/*
 * Calls of the GenAI library. Where the kernel can attach to many functions at once (6.6), the cookie tells which one was
 * called; elsewhere the loader adds a pair of programs per function (`phase_enter_N`, `phase_exit_N`).
 */

struct phase_key {
  u32 tid;
  u32 function;
};
struct phase_call {
  u64 ts;
  u64 argument;
  u32 tgid;
  u32 pad;
};
BPF_HASH(phase_calls, struct phase_key, struct phase_call, 4096);

static __always_inline int phase_enter(struct pt_regs *ctx, u32 function) {
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32;
  if (role_of_current(tgid) != ROLE_TARGET)
    return 0;
  struct phase_key key = {.tid = (u32)pid_tgid, .function = function};
  struct phase_call call = {.argument = PT_REGS_PARM1(ctx), .tgid = tgid, .ts = bpf_ktime_get_ns()};
  if (phase_calls.update(&key, &call))
    count_loss(KIND_PHASE);
  return 0;
}

static __always_inline int phase_exit(struct pt_regs *ctx, u32 function) {
  struct phase_key key = {.tid = (u32)bpf_get_current_pid_tgid(), .function = function};
  struct phase_call *call = phase_calls.lookup(&key);
  if (!call)
    return 0;
  /* The C API returns NULL for success and a pointer to a result for an error. */
  s32 ret = PT_REGS_RC(ctx) ? -1 : 0;
  emit(KIND_PHASE, call->tgid, key.tid, call->ts, bpf_ktime_get_ns() - call->ts, ret, function, call->argument, 0);
  phase_calls.delete(&key);
  return 0;
}

int phase_enter_any(struct pt_regs *ctx) {
  return phase_enter(ctx, bpf_get_attach_cookie(ctx));
}

int phase_exit_any(struct pt_regs *ctx) {
  return phase_exit(ctx, bpf_get_attach_cookie(ctx));
}
