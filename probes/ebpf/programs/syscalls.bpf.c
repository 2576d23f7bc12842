/*
 * The base layer: system calls of the daemons and of the target. Needs no symbols and works with any build.
 *
 * Raw tracepoints: they detach at once, and cost less per hit than one classic tracepoint for every call. `sys_enter`
 * notes only when the call began; `sys_exit` reads the arguments, which are still in the registers then.
 */

/* Calls of interest by number: ROLE_TARGET and ROLE_DAEMON, or-ed. */
BPF_ARRAY(watch, u32, 512);

/* FUSE requests that a daemon read and has not answered. The numbers of a mount follow each other. */
BPF_F_TABLE("array", u32, struct serving, serving, REQUEST_SLOTS, BPF_F_MMAPABLE);
BPF_HASH(serving_displaced, struct serving_key, struct serving, 16384);

/* Threads of daemons that are at work for the target: the last request that they read was the target's. Names of what others ask for
   never leave the kernel, and what is done for others is told without saying for what. */
BPF_HASH(serves_target, u32, u32, 16384);
BPF_HASH(namespace_numbers, u32, u32, 256); /* daemons that mounted in another PID namespace than the initial one */

static __always_inline u16 for_target(u32 tid) {
  return serves_target.lookup(&tid) ? FOR_TARGET : 0;
}

static __always_inline struct serving *serving_slot(struct serving_key *key) {
  u32 slot = ((u32)(key->unique >> 1) + (u32)key->tgid * 61) & (REQUEST_SLOTS - 1);
  return serving.lookup(&slot);
}

/* A daemon fills its cache with thousands of writes of which nothing is told; what is told of others is smaller. */
#define WRITE_MAX 4096

static __always_inline int fills_cache(struct pt_regs *regs) {
  u64 size = 0;
  bpf_probe_read_kernel(&size, sizeof(size), &regs->dx);
  return size >= WRITE_MAX;
}

RAW_TRACEPOINT_PROBE(sys_enter) {
  u32 nr = ctx->args[1];
  u32 *watched = watch.lookup(&nr);
  if (!watched || !*watched)
    return 0;
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32, tid = pid_tgid, slot = tid & (THREAD_SLOTS - 1);
  struct call *call = calls.lookup(&slot);
  if (!call)
    return 0;
  u32 role = call->tid == tid ? call->role : role_of_current(tgid);
  if (!(*watched & role) || (nr == NR_write && role == ROLE_DAEMON && fills_cache((struct pt_regs *)ctx->args[0])))
    return 0;
  if (call->ts && call->tid != tid) {
    struct call displaced = {.tid = tid, .tgid = tgid, .nr = nr, .role = role, .ts = bpf_ktime_get_ns()};
    displace(CALLS);
    if (calls_displaced.update(&tid, &displaced))
      count_loss(LOST_CALLS);
    return 0;
  }
  call->tgid = tgid;
  call->nr = nr;
  call->role = role;
  call->tid = tid;
  call->ts = bpf_ktime_get_ns();
  return 0;
}

/* The registers from r10 to orig_ax, as pt_regs has them: one read instead of five. */
struct arguments {
  u64 r10, r9, r8, ax, cx, dx, si, di, orig_ax;
};

/* A call that returned, and the one record that is made of it at the end: one place to emit keeps the program small. */
#define NO_TEXT 0
#define STRING -1
struct finished {
  u64 ts, dur;
  u32 tgid, tid, nr;
  s64 ret;
  u64 a0, a1, a2, a3, a4;
  u32 kind; /* 0: not told */
  u64 a, b, c;
  u64 text;
  s64 text_size; /* NO_TEXT, STRING, or bytes */
};

static __always_inline void tell(struct finished *f, u32 kind, u64 a, u64 b, u64 c) {
  f->kind = kind;
  f->a = a;
  f->b = b;
  f->c = c;
}

static __always_inline void add_text(struct finished *f, u64 address, s64 size) {
  f->text = address;
  f->text_size = size;
}

#define FUSE_MIN_READ_BUFFER 8192
#define O_DIRECT 040000
struct iovec64 {
  u64 base, len;
};

static __always_inline int answered(u32 opcode) {
  return opcode != OP_FORGET && opcode != OP_BATCH_FORGET && opcode != OP_INTERRUPT;
}

/* Whether a request is the target's. Its header has the number of the thread in the PID namespace of whoever mounted: that is used
   only where nothing better is known, and only where the loader says that it is the initial one. */
static __always_inline int is_of_target(struct finished *f, struct fuse_in *in) {
#ifdef FUSE_REQUESTS
  u32 asker = asker_of(f->tgid, in->unique);
  if (asker)
    return role_of(asker) == ROLE_TARGET;
#endif
  return !namespace_numbers.lookup(&f->tgid) && in->pid && role_of(in->pid) == ROLE_TARGET;
}

static __always_inline void note_asker(u32 tid, int is_target) {
  u32 one = 1, *noted = serves_target.lookup(&tid);
  if (is_target && !noted)
    serves_target.update(&tid, &one);
  else if (!is_target && noted)
    serves_target.delete(&tid);
}

static __always_inline void fuse_request(struct finished *f) {
  struct fuse_in in = {};
  if (read_user(&in, sizeof(in), (void *)f->a1) || in.len != f->ret)
    return;
  u64 ts = f->ts + f->dur, opcode_pid = ((u64)in.opcode << 32) | in.pid;
  int is_target = is_of_target(f, &in);
  note_asker(f->tid, is_target);
  if (in.opcode == OP_LOOKUP && is_target)
    emit_text(KIND_FUSE_DAEMON, f->tid, ts, f->a1 + sizeof(in), STRING, FOR_TARGET);
  if (in.opcode == OP_READ) {
    struct fuse_read_in args = {};
    read_user(&args, sizeof(args), (void *)(f->a1 + sizeof(in)));
    emit(KIND_FUSE_READ, f->tgid, f->tid, ts, 0, (s32)args.fh, in.unique, args.offset,
         args.size | (args.flags & O_DIRECT ? DIRECT : 0));
  }
  if (!answered(in.opcode)) {
    emit(KIND_FUSE_DAEMON, f->tgid, f->tid, ts, 0, 0, in.unique, in.nodeid, opcode_pid);
    return;
  }
  struct serving value = {.ts = ts, .nodeid = in.nodeid, .opcode_pid = opcode_pid, .tid = f->tid};
  value.key.unique = in.unique;
  value.key.tgid = f->tgid;
  struct serving *request = serving_slot(&value.key);
  if (request && !request->ts)
    *request = value;
  else if (serving_displaced.update(&value.key, &value))
    count_loss(KIND_FUSE_DAEMON);
}

static __always_inline void fuse_reply(struct finished *f) {
  struct iovec64 iov = {};
  struct fuse_out out = {};
  if (read_user(&iov, sizeof(iov), (void *)f->a1) || iov.len != sizeof(out) ||
      read_user(&out, sizeof(out), (void *)iov.base) || !out.unique)
    return;
  struct serving_key key = {.unique = out.unique, .tgid = f->tgid};
  struct serving *request = serving_slot(&key);
  int displaced = 0;
  if (!request || !request->ts || request->key.unique != key.unique || request->key.tgid != key.tgid) {
    displaced = 1;
    request = serving_displaced.lookup(&key);
    if (!request)
      return; /* a notification, or a request read before the recording */
  }
  u32 opcode = request->opcode_pid >> 32;
  u64 body[2] = {};
  if (f->a2 > 1 && !out.error && (opcode == OP_LOOKUP || opcode == OP_OPEN)) {
    read_user(&iov, sizeof(iov), (void *)(f->a1 + sizeof(iov)));
    read_user(body, sizeof(body), (void *)iov.base);
  }
  u64 open_flags = opcode == OP_OPEN ? (u32)body[1] : 0;
  emit(KIND_FUSE_REPLY, f->tgid, f->tid, f->ts, f->dur, f->ret, out.unique, out.len | open_flags << 32, body[0]);
  emit(KIND_FUSE_DAEMON, f->tgid, request->tid, request->ts, f->ts + f->dur - request->ts, out.error, out.unique,
       request->nodeid, request->opcode_pid);
  if (displaced)
    serving_displaced.delete(&key);
  else
    request->ts = 0;
}

static __always_inline u64 user_u64(u64 address) {
  u64 value = 0;
  read_user(&value, sizeof(value), (void *)address);
  return value;
}

static __always_inline void daemon_read(struct finished *f) {
  if (f->a2 >= FUSE_MIN_READ_BUFFER && f->ret >= (s64)sizeof(struct fuse_in))
    fuse_request(f);
  else if (f->ret == 8 && f->a2 == 8)
    tell(f, KIND_HANDOVER_TAKEN, user_u64(f->a1), f->a0, 0);
  else if (f->ret == 4 && f->a2 == 4)
    tell(f, KIND_HANDOVER_RESULT, (u32)user_u64(f->a1), f->a0, 0);
}

/* What the quota manager is told over its pipe; an insert is followed by the object's path in the same write. */
struct lru_command {
  u32 command, pad;
  u64 size;
  u32 marker;
};

static __always_inline void daemon_write(struct finished *f) {
  if (f->a2 == 8)
    tell(f, KIND_HANDOVER, user_u64(f->a1), f->a0, 0);
  else if (f->a2 == 4)
    tell(f, KIND_HANDOVER_DONE, (u32)user_u64(f->a1), f->a0, 0);
  else if (f->a2 > LRU_COMMAND_BYTES && f->a2 < WRITE_MAX) {
    struct lru_command lru = {};
    read_user(&lru, sizeof(lru), (void *)f->a1);
    if ((lru.command != LRU_INSERT && lru.command != LRU_INSERT_VOLATILE) || lru.marker != 0xffffffff)
      return;
    tell(f, KIND_CACHE_INSERT, lru.size & LRU_SIZE_MASK, 0, 0);
    if (for_target(f->tid)) /* the path of what was fetched */
      add_text(f, f->a1 + LRU_COMMAND_BYTES, f->a2 - LRU_COMMAND_BYTES);
  }
}

struct socket_address {
  u16 family, port;
  u32 ipv4;
};

static __always_inline void daemon_connect(struct finished *f) {
  struct socket_address to = {};
  read_user(&to, sizeof(to), (void *)f->a1);
  if (to.family != AF_INET && to.family != AF_INET6)
    return;
  u64 port = (u64)(((to.port & 0xff) << 8) | (to.port >> 8)) << 32;
  u64 ipv4 = to.family == AF_INET ? __builtin_bswap32(to.ipv4) : 0;
  tell(f, KIND_HTTP_CONNECT, f->a0, to.family | port, ipv4);
}

/* What became of a connect that was in progress, when somebody asks. */
#define SOL_SOCKET 1
#define SO_ERROR 4

static __always_inline void daemon_asks(struct finished *f) {
  if (f->ret || f->a1 != SOL_SOCKET || f->a2 != SO_ERROR)
    return;
  s32 error = (s32)user_u64(f->a3);
  f->ret = -error;
  if (error)
    tell(f, KIND_HTTP_ERROR, f->a0, 0, 0);
}

static __always_inline void daemon_send(struct finished *f) {
  u32 word = 0;
  read_user(&word, sizeof(word), (void *)f->a1);
  if ((word & 0xffff) == TLS_DATA && f->a2 >= TLS_REQUEST_MIN)
    return tell(f, KIND_HTTP_SEND, f->a0, 1, f->a2);
  if (word != 0x20544547) /* "GET " */
    return;
  tell(f, KIND_HTTP_SEND, f->a0, 0, f->a2);
  add_text(f, f->a1, f->a2);
}

static __always_inline void daemon_receive(struct finished *f) {
  if (f->ret < 0)
    return;
  tell(f, KIND_HTTP_RECV, f->a0, 0, f->a2);
  if (f->ret > 8 && (user_u64(f->a1) & 0x00ffffffffffffff) == 0x002e312f50545448) /* "HTTP/1." */
    add_text(f, f->a1, f->ret);
}

/* libcurl polls at every step, before each receive: with a timeout of 0, or with data there already. Those are not waits. */
#define POLL_MIN_NS 5000

static __always_inline int is_poll(u32 nr) {
  return nr == NR_poll || nr == NR_epoll_wait;
}

static __always_inline void daemon_exit(struct finished *f) {
  switch (f->nr) {
  case NR_read:
    return daemon_read(f);
  case NR_writev:
    return fuse_reply(f);
  case NR_write:
    return daemon_write(f);
  case NR_pread64:
    return tell(f, KIND_CACHE_READ, f->a0, f->a3, f->a2);
  case NR_open:
    tell(f, KIND_CACHE_OPEN, f->a1, 0, 0);
    return add_text(f, f->a0, STRING);
  case NR_openat:
    tell(f, KIND_CACHE_OPEN, f->a2, 0, 0);
    return add_text(f, f->a1, STRING);
  case NR_close:
    if (!f->ret)
      tell(f, KIND_CACHE_CLOSE, f->a0, 0, 0);
    return;
  case NR_rename:
    tell(f, KIND_CACHE_RENAME, 0, 0, 0);
    return add_text(f, f->a1, STRING);
  case NR_renameat:
  case NR_renameat2:
    tell(f, KIND_CACHE_RENAME, 0, 0, 0);
    return add_text(f, f->a3, STRING);
  case NR_connect:
    return daemon_connect(f);
  case NR_getsockopt:
    return daemon_asks(f);
  case NR_sendto:
    return daemon_send(f);
  case NR_recvfrom:
    return daemon_receive(f);
  case NR_poll:
    if (f->a2)
      tell(f, KIND_DAEMON_POLL, f->a1, (s64)(s32)f->a2, 0);
    return;
  case NR_epoll_wait:
    return tell(f, KIND_DAEMON_POLL, f->a2, (s64)(s32)f->a3, 0);
  case NR_futex:
    if ((f->a1 & 0x7f) == 0 || (f->a1 & 0x7f) == 9) /* FUTEX_WAIT, FUTEX_WAIT_BITSET */
      tell(f, KIND_DAEMON_FUTEX, f->a0, 0, 0);
    return;
  }
}

/* Shorter waits are not worth a name. */
#define WAIT_MIN_NS 20000

#define F_DUPFD 0
#define F_DUPFD_CLOEXEC 1030

/* Where struct statx has what struct stat begins with. */
#define STATX_INO 32
#define STATX_DEV 136
struct stat_head {
  u64 dev, ino;
};

/* A path check. The call itself tells which device it found, so that checks of other files cost no record. */
static __always_inline void checked(struct finished *f, u64 directory, u64 path, u64 found) {
  u32 dev = 0;
  u64 *st_dev = 0, inode = 0, nr = f->nr;
  if (f->ret) {
    if (f->dur < WAIT_MIN_NS || !path)
      return;
  } else {
    struct stat_head head = {};
    if (nr == NR_statx) {
      u64 major_minor = user_u64(found + STATX_DEV);
      dev = (u32)major_minor << 20 | major_minor >> 32;
      head.ino = user_u64(found + STATX_INO);
    } else {
      read_user(&head, sizeof(head), (void *)found);
      dev = ((head.dev >> 8) & 0xfff) << 20 | (head.dev & 0xff) | ((head.dev >> 12) & 0xfff00);
    }
    inode = head.ino;
    st_dev = observed_device(dev);
    if (!st_dev)
      return;
  }
  tell(f, KIND_SYS_STAT, st_dev ? *st_dev : 0, inode, nr | directory << 32);
  if (path && f->dur >= WAIT_MIN_NS)
    add_text(f, path, STRING);
}

static __always_inline void waited(struct finished *f) {
  if (f->dur >= WAIT_MIN_NS)
    tell(f, KIND_SYS_WAIT, f->nr, f->a0, f->a1);
}

/* What waitid tells of a child (siginfo), as wait4 would. */
#define CLD_EXITED 1
#define CLD_KILLED 2
#define CLD_DUMPED 3
struct child_info {
  s32 signo, error, code, pad;
  s32 pid, uid, status;
};

/* A process in another PID namespace knows its children by other numbers. */
static __always_inline int has_kernel_numbers() {
  struct namespace_numbers numbers = {};
  return !numbers_in_namespace(NAMESPACE_DEVICE, INITIAL_NAMESPACE, &numbers, sizeof(numbers));
}

static __always_inline void reaped(struct finished *f) {
  struct child_info info = {};
  if (f->ret || !f->a2 || read_user(&info, sizeof(info), (void *)f->a2) || !info.pid || info.code < CLD_EXITED ||
      info.code > CLD_DUMPED)
    return;
  if (!has_kernel_numbers())
    return;
  u32 status = info.code == CLD_EXITED ? (info.status & 0xff) << 8 : info.status & 0x7f;
  emit(KIND_PROC_REAPED, f->tgid, f->tid, f->ts + f->dur, 0, 0, info.pid, status, 0);
}

/* A mark that the target writes itself (probes/phases/hook.py) has the numbers that its threads have in their PID namespace: where they
   are others than the kernel's, both are told. */
#define KIND_OF_MARK 0xff /* names of phases and imports have flags above their kind */
static __always_inline void written_mark(struct finished *f) {
  struct event mark = {};
  if (!f->a2 || f->a2 % sizeof(mark) || f->ret != f->a2 || read_user(&mark, sizeof(mark), (void *)f->a1))
    return;
  u32 kind = mark.kind & KIND_OF_MARK;
  if ((kind == KIND_PHASE || kind == KIND_IMPORT) && mark.ts && mark.ts <= f->ts &&
      (mark.tgid != f->tgid || mark.tid != f->tid))
    emit(KIND_MARK, f->tgid, f->tid, f->ts, 0, 0, mark.ts, mark.tid, mark.tgid);
}

static __always_inline void target_exit(struct finished *f) {
  switch (f->nr) {
  case NR_write:
    written_mark(f);
    return waited(f);
  case NR_read:
  case NR_readv:
    return tell(f, KIND_SYS_READ, f->a0, -1, f->a2);
  case NR_pread64:
  case NR_preadv:
  case NR_preadv2: /* an offset of -1 is the file position, as in NO_OFFSET */
    return tell(f, KIND_SYS_READ, f->a0, f->a3, f->a2);
  case NR_sendfile: /* to, from */
    return tell(f, KIND_SYS_READ, f->a1, -1, f->a3);
  case NR_splice:
  case NR_copy_file_range:
    return tell(f, KIND_SYS_READ, f->a0, -1, f->a4);
  case NR_wait4:
    if (f->ret > 0 && f->a1 && has_kernel_numbers())
      emit(KIND_PROC_REAPED, f->tgid, f->tid, f->ts + f->dur, 0, 0, f->ret, (u32)user_u64(f->a1), 0);
    return waited(f);
  case NR_waitid:
    reaped(f);
    return waited(f);
  case NR_open:
    tell(f, KIND_SYS_OPEN, AT_FDCWD, f->a1, 0);
    return add_text(f, f->a0, STRING);
  case NR_openat:
    tell(f, KIND_SYS_OPEN, f->a0, f->a2, 0);
    return add_text(f, f->a1, STRING);
  case NR_openat2:
    tell(f, KIND_SYS_OPEN, f->a0, user_u64(f->a2), 0);
    return add_text(f, f->a1, STRING);
  case NR_mmap:
    return; /* six arguments: see mapped() */
  case NR_close:
    return tell(f, KIND_SYS_CLOSE, f->a0, 0, 0);
  case NR_chdir:
    if (!f->ret) {
      tell(f, KIND_SYS_CHDIR, 0, 0, 0);
      add_text(f, f->a0, STRING);
    }
    return;
  case NR_fchdir:
    if (!f->ret)
      tell(f, KIND_SYS_CHDIR, f->a0, 0, 0);
    return;
  case NR_fcntl:
    if (f->a1 != F_DUPFD && f->a1 != F_DUPFD_CLOEXEC)
      return; /* else it falls through */
  case NR_dup:
  case NR_dup2:
  case NR_dup3:
    if (f->ret >= 0)
      tell(f, KIND_SYS_DUP, f->a0, 0, 0);
    return;
  case NR_stat:
  case NR_lstat:
    return checked(f, AT_FDCWD, f->a0, f->a1);
  case NR_fstat:
    return checked(f, f->a0, 0, f->a1);
  case NR_newfstatat:
    return checked(f, f->a0, f->a1, f->a2);
  case NR_statx:
    return checked(f, f->a0, f->a1, f->a4);
  case NR_getdents64:
    return tell(f, KIND_SYS_LIST, f->a0, 0, f->a2);
  case NR_readlink:
    tell(f, KIND_SYS_LINK, AT_FDCWD, 0, 0);
    return add_text(f, f->a0, STRING);
  case NR_readlinkat:
    tell(f, KIND_SYS_LINK, f->a0, 0, 0);
    return add_text(f, f->a1, STRING);
  case NR_munmap:
    return tell(f, KIND_SYS_UNMAP, f->a0, 0, f->a1);
  default:
    waited(f);
  }
}

static __always_inline void mapped(struct finished *f, struct arguments *args) {
  if (args->r10 & 0x20) /* MAP_ANONYMOUS */
    return;
  u64 address = f->ret;
  f->ret = f->ret < 0 && f->ret > -4096 ? f->ret : 0;
  if (!f->ret)
    emit(KIND_SYS_MAPPED, f->tgid, f->tid, f->ts, f->dur, 0, address, args->r8, args->si);
  tell(f, KIND_SYS_MMAP, args->r8, args->r9, args->si);
}

/* A process whose role became known while its threads were in calls: what such a call is was not noted, its begin is not known. */
static __always_inline int call_of_latecomer(struct call *late, struct call *slot, struct bpf_raw_tracepoint_args *ctx) {
  u64 pid_tgid = bpf_get_current_pid_tgid(), nr = 0;
  u32 tgid = pid_tgid >> 32, tid = pid_tgid, role = role_of_current(tgid);
  if (!role)
    return 0;
  bpf_probe_read_kernel(&nr, sizeof(nr), &((struct pt_regs *)ctx->args[0])->orig_ax);
  u32 number = nr;
  u32 *watched = watch.lookup(&number);
  if (!slot->ts) { /* so that its next call is not taken for a late one */
    slot->tgid = tgid;
    slot->role = role;
    slot->tid = tid;
  }
  if (!watched || !(*watched & role))
    return 0;
  late->tid = tid;
  late->tgid = tgid;
  late->nr = number;
  late->role = role;
  late->ts = LOADED_NS;
  return 1;
}

RAW_TRACEPOINT_PROBE(sys_exit) {
  u32 tid = bpf_get_current_pid_tgid();
  u32 slot = tid & (THREAD_SLOTS - 1);
  struct call *call = calls.lookup(&slot);
  if (!call)
    return 0;
  int displaced = 0;
  struct call late = {};
  if (call->tid != tid || !call->ts) {
    struct call *noted = any_displaced(CALLS) ? calls_displaced.lookup(&tid) : 0;
    displaced = noted != 0;
    if (!noted && call->tid != tid && any_displaced(LATECOMERS) && call_of_latecomer(&late, call, ctx))
      noted = &late;
    if (!noted)
      return 0;
    call = noted;
  }
  keep_after_check(call);
  struct finished f = {.ts = call->ts, .tgid = call->tgid, .tid = tid, .nr = call->nr, .ret = ctx->args[1]};
  u32 role = call->role;
  f.dur = bpf_ktime_get_ns() - f.ts;
  if (displaced)
    calls_displaced.delete(&tid);
  else
    call->ts = 0;

  if (role == ROLE_DAEMON && is_poll(f.nr) && f.dur < POLL_MIN_NS)
    return 0;

  struct arguments args = {};
  struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
  bpf_probe_read_kernel(&args, sizeof(args), &regs->r10);
  if (args.orig_ax != f.nr) /* the loader noted a call as open that had just returned */
    return 0;
  f.a0 = args.di;
  f.a1 = args.si;
  f.a2 = args.dx;
  f.a3 = args.r10;
  f.a4 = args.r8;
  if (role == ROLE_DAEMON)
    daemon_exit(&f);
  else if (f.nr == NR_mmap)
    mapped(&f, &args);
  else
    target_exit(&f);
  if (!f.kind)
    return 0;
  emit(f.kind, f.tgid, f.tid, f.ts, f.dur, f.ret, f.a, f.b, f.c);
  if (f.text_size)
    emit_text(f.kind, f.tid, f.ts, f.text, f.text_size, role == ROLE_DAEMON ? for_target(f.tid) : 0);
  return 0;
}
