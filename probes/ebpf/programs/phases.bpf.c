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
  u64 value; /* what Function.detail of, or where it will stand when the call returns */
  u32 tgid;
  u32 pad;
};
BPF_HASH(phase_calls, struct phase_key, struct phase_call, 4096);

#define SEQUENCE_BYTES 24 /* sizeof(std::vector<int32_t>) */
#define MOST_SEQUENCES 65536

/* OgaSequences is a vector of vectors: how many it holds, 0 if that is not what is found. */
static __always_inline u64 sequences_at(u64 address) {
  u64 range[2] = {};
  if (bpf_probe_read_user(range, sizeof(range), (void *)address) || range[1] <= range[0])
    return 0;
  u64 bytes = range[1] - range[0], count = bytes / SEQUENCE_BYTES;
  return count * SEQUENCE_BYTES == bytes && count <= MOST_SEQUENCES ? count : 0;
}

/* Names of numbers that are set for the search, as words: compared byte by byte, the verifier would follow every outcome of each. */
#define IS_NAME(n, a, b, c) (!((n[0] ^ a##ULL) | (n[1] ^ b##ULL) | (n[2] ^ c##ULL)))
#define IS_BATCH_SIZE(n) IS_NAME(n, 0x69735f6863746162, 0x000000000000657a, 0x0000000000000000)
#define IS_NUM_BEAMS(n) IS_NAME(n, 0x6d6165625f6d756e, 0x0000000000000073, 0x0000000000000000)
#define IS_NUM_RETURN_SEQUENCES(n) IS_NAME(n, 0x757465725f6d756e, 0x65757165735f6e72, 0x000000007365636e)

/* Whether a number that is set for the search makes several tokens of a step: the size of the batch, beams, or 0 for none of them. */
static __always_inline u64 search_number(u64 address) {
  u64 name[3] = {};
  if (bpf_probe_read_user_str(name, sizeof(name), (void *)address) <= 0)
    return 0;
  if (IS_BATCH_SIZE(name))
    return SEARCH_BATCH;
  return IS_NUM_BEAMS(name) || IS_NUM_RETURN_SEQUENCES(name) ? SEARCH_BEAMS : 0;
}

/* What is known of a call when it begins; for what it hands out, the address where it will stand. */
static __always_inline u64 value_at_entry(struct pt_regs *ctx, u32 function) {
  if (function == FUNCTION_APPEND_SEQUENCES)
    return sequences_at(PT_REGS_PARM2(ctx));
  if (function == FUNCTION_SET_SEARCH_NUMBER)
    return search_number(PT_REGS_PARM2(ctx));
  if (function == FUNCTION_CREATE_GENERATOR || function == FUNCTION_GET_NEXT_TOKENS)
    return PT_REGS_PARM3(ctx);
  if (function == FUNCTION_EVENT_REQUEST || function == FUNCTION_EVENT_FLAGS)
    return PT_REGS_PARM2(ctx);
  return 0;
}

static __always_inline u64 value_at_return(u64 noted, u32 function, s32 ret) {
  u64 value = 0;
  u32 flags = 0;
  if (function == FUNCTION_CREATE_GENERATOR || function == FUNCTION_GET_NEXT_TOKENS || function == FUNCTION_EVENT_REQUEST) {
    if (!ret)
      bpf_probe_read_user(&value, sizeof(value), (void *)noted);
    return value;
  }
  if (function == FUNCTION_EVENT_FLAGS) {
    if (!ret)
      bpf_probe_read_user(&flags, sizeof(flags), (void *)noted);
    return flags;
  }
  return noted;
}

static __always_inline int phase_enter(struct pt_regs *ctx, u32 function) {
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32;
  if (role_of_current(tgid) != ROLE_TARGET)
    return 0;
  struct phase_key key = {.tid = (u32)pid_tgid, .function = function};
  struct phase_call call = {.argument = PT_REGS_PARM1(ctx), .tgid = tgid, .value = value_at_entry(ctx, function)};
  if (function == FUNCTION_SET_SEARCH_NUMBER && !call.value)
    return 0;
  call.ts = bpf_ktime_get_ns();
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
  emit(KIND_PHASE, call->tgid, key.tid, call->ts, bpf_ktime_get_ns() - call->ts, ret, function, call->argument,
       value_at_return(call->value, function, ret));
  phase_calls.delete(&key);
  return 0;
}

int phase_enter_any(struct pt_regs *ctx) {
  return phase_enter(ctx, bpf_get_attach_cookie(ctx));
}

int phase_exit_any(struct pt_regs *ctx) {
  return phase_exit(ctx, bpf_get_attach_cookie(ctx));
}
