/*
 * Calls of the libraries that mark phases. Where the kernel can attach to many functions at once (6.6), the cookie tells which one was
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
  u32 shown; /* 1 + the function that the event names, 0 for the one that was called */
  u32 depth; /* of a function of one's own: calls of others of its phase within it */
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

/* llama_batch of llama.h. Where `logits` is NULL, those of the last token are computed. */
struct llama_batch {
  s32 n_tokens;
  u32 pad;
  u64 token, embd, pos, n_seq_id, seq_id, logits;
};
#define LLAMA_PIECE 64
#define MOST_LLAMA_PIECES 128
#define EACH_BYTE 0x0101010101010101ULL

static __always_inline u32 llama_flags(u64 address, u32 size) {
  u64 flags[LLAMA_PIECE / 8] = {}, sum = 0;
  bpf_probe_read_user(flags, size, (void *)address); /* all 0 where it cannot be read */
#pragma unroll
  for (u32 word = 0; word < LLAMA_PIECE / 8; word++)
    sum += flags[word] & EACH_BYTE;
  return (sum * EACH_BYTE) >> 56;
}

/* How many of the tokens of a batch have logits: each has a byte, 1 or 0. The loop ends with its conditions: 5.10 refuses one that is
 * entered in its middle, which compilers make of conditions at the begin. */
static __always_inline u32 llama_outputs(struct llama_batch *batch) {
  u32 count = 0, pieces = (u32)batch->n_tokens / LLAMA_PIECE, rest = (u32)batch->n_tokens & (LLAMA_PIECE - 1);
  u32 piece = 0;
  if (pieces) {
    do {
      count += llama_flags(batch->logits + piece * LLAMA_PIECE, LLAMA_PIECE);
      if (++piece >= pieces)
        break;
    } while (piece < MOST_LLAMA_PIECES);
  }
  return count + (rest ? llama_flags(batch->logits + pieces * LLAMA_PIECE, rest) : 0);
}

/* Whether the first two tokens of a batch are of one sequence. */
static __always_inline int llama_shares_sequence(struct llama_batch *batch) {
  u64 ids[2] = {};
  s32 first = 0, second = 0;
  if (!batch->seq_id || bpf_probe_read_user(ids, sizeof(ids), (void *)batch->seq_id) ||
      bpf_probe_read_user(&first, sizeof(first), (void *)ids[0]) || bpf_probe_read_user(&second, sizeof(second), (void *)ids[1]))
    return 1;
  return first == second;
}

/* What a batch makes, and whether it is a prompt: all but a token, or one token of each of several sequences, or guesses for one. */
static __always_inline u64 llama_batch_value(struct pt_regs *ctx, u32 *shown) {
  struct llama_batch batch = {};
  s32 position = -1;
  if (bpf_probe_read_user(&batch, sizeof(batch), (void *)(PT_REGS_SP(ctx) + 8)) || batch.n_tokens <= 0)
    return 0;
  if (batch.pos)
    bpf_probe_read_user(&position, sizeof(position), (void *)batch.pos);
  u64 size = (u64)batch.n_tokens << 32;
  u32 outputs = batch.logits ? llama_outputs(&batch) : 1;
  int shares = batch.n_tokens > 1 && outputs > 1 && llama_shares_sequence(&batch);
  *shown = position == 0 || outputs < (u32)batch.n_tokens ? 1 + FUNCTION_LLAMA_PROMPT : 0;
  if (shares) /* an embedding makes no token; how many guesses were right is not known */
    return size | (*shown ? 0 : MANY);
  return size | outputs;
}

/* llama_batch_ext of newer versions, whose layout changes: what was put into each since it was cleared, by the calls that put it there. */
struct llama_batch_key {
  u64 batch;
  u32 tgid;
  u32 pad;
};
struct llama_content {
  u32 tokens;
  u32 outputs;
  s32 sequence;
  u32 shares; /* tokens that follow one of the same sequence */
};
BPF_TABLE("lru_hash", struct llama_batch_key, struct llama_content, llama_batches, 1024);

/* Note what a call puts into a batch; returns whether it is such a call. */
static __always_inline int fills_llama_batch(struct pt_regs *ctx, u32 function, u32 tgid) {
  if (function != FUNCTION_LLAMA_CLEAR && function != FUNCTION_LLAMA_ADD_TOKEN && function != FUNCTION_LLAMA_ADD &&
      function != FUNCTION_LLAMA_ADD_EMBD && function != FUNCTION_LLAMA_OUTPUT)
    return 0;
  struct llama_batch_key key = {.batch = PT_REGS_PARM1(ctx), .tgid = tgid};
  struct llama_content none = {}, *content = llama_batches.lookup(&key);
  if (function == FUNCTION_LLAMA_CLEAR || !content) {
    llama_batches.update(&key, &none);
    content = llama_batches.lookup(&key);
  }
  if (function == FUNCTION_LLAMA_CLEAR || !content)
    return 1;
  if (function == FUNCTION_LLAMA_OUTPUT) {
    content->outputs += (u8)PT_REGS_PARM3(ctx) ? 1 : 0;
    return 1;
  }
  s32 sequence = PT_REGS_PARM2(ctx);
  content->shares += content->tokens && content->sequence == sequence;
  content->tokens++;
  content->sequence = sequence;
  return 1;
}

/* The same as llama_batch_value, for llama_process(context, 0 to encode or 1 to decode, batch). */
static __always_inline u64 llama_process_value(struct pt_regs *ctx, u32 tgid, u32 *shown) {
  struct llama_batch_key key = {.batch = PT_REGS_PARM3(ctx), .tgid = tgid};
  struct llama_content *content = llama_batches.lookup(&key);
  if (!(u32)PT_REGS_PARM2(ctx)) {
    *shown = 1 + FUNCTION_LLAMA_ENCODE;
    return 0;
  }
  if (!content || !content->tokens)
    return MANY; /* it was filled before its calls could be seen */
  *shown = content->outputs < content->tokens ? 1 + FUNCTION_LLAMA_PROMPT : 1 + FUNCTION_LLAMA_DECODE;
  return (u64)content->tokens << 32 | (content->shares && content->outputs == content->tokens ? MANY : content->outputs);
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

#define IS_OWN(f) ((f) >= FUNCTION_OWN_LOAD && (f) <= FUNCTION_OWN_TEARDOWN)

static __always_inline int phase_enter(struct pt_regs *ctx, u32 function) {
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32;
  if (role_of_current(tgid) != ROLE_TARGET)
    return 0;
  if (fills_llama_batch(ctx, function, tgid))
    return 0;
  struct phase_key key = {.tid = (u32)pid_tgid, .function = function};
  struct phase_call *outer = IS_OWN(function) ? phase_calls.lookup(&key) : 0;
  if (outer) {
    outer->depth++;
    return 0;
  }
  struct phase_call call = {.argument = PT_REGS_PARM1(ctx), .tgid = tgid, .value = value_at_entry(ctx, function)};
  if (function == FUNCTION_SET_SEARCH_NUMBER && !call.value)
    return 0;
  if (IS_OWN(function)) { /* what makes the tokens is the thread: what the first argument means is not known */
    call.argument = (u32)pid_tgid;
    call.value = function == FUNCTION_OWN_DECODE;
  }
  if (function == FUNCTION_LLAMA_DECODE)
    call.value = llama_batch_value(ctx, &call.shown);
  if (function == FUNCTION_LLAMA_PROCESS)
    call.value = llama_process_value(ctx, tgid, &call.shown);
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
  if (call->depth) {
    call->depth--;
    return 0;
  }
  /* Most return 0 (or NULL) for success; llama_decode an int, and 1 if it found no room and computed nothing. */
  int is_int = function == FUNCTION_LLAMA_DECODE || function == FUNCTION_LLAMA_PROCESS || function == FUNCTION_LLAMA_ENCODE;
  u64 result = is_int ? (u32)PT_REGS_RC(ctx) : PT_REGS_RC(ctx);
  s32 ret = !RETURNS_NOTHING(function) && (!result) == RETURNS_POINTER(function) ? -1 : 0;
  u32 shown = call->shown ? call->shown - 1 : function;
  emit(KIND_PHASE, call->tgid, key.tid, call->ts, bpf_ktime_get_ns() - call->ts, ret, shown, call->argument,
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
