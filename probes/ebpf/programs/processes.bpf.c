/* The target's process tree, followed through fork and exec. */

TRACEPOINT_PROBE(sched, sched_process_fork) {
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32, child = args->child_pid, role = role_of_current(tgid);
  if (role != ROLE_TARGET) {
    if (role_of(child)) /* the number of a process that has ended is used again */
      processes.delete(&child);
    return 0;
  }
  /* A new thread has its tid here, too; its entry is as harmless as it is unused, and goes when it ends. */
  if (processes.update(&child, &role))
    count_loss(KIND_PROC_FORK);
  emit(KIND_PROC_FORK, tgid, (u32)pid_tgid, bpf_ktime_get_ns(), 0, 0, child, child, 0);
  return 0;
}

TRACEPOINT_PROBE(sched, sched_process_exec) {
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32, tid = pid_tgid;
  if (role_of_current(tgid) != ROLE_TARGET)
    return 0;
  u64 ts = bpf_ktime_get_ns();
  emit(KIND_PROC_EXEC, tgid, tid, ts, 0, 0, 0, 0, 0);
  struct text *t = texts.ringbuf_reserve(sizeof(struct text));
  if (!t) {
    count_loss(LOST_TEXT + KIND_PROC_EXEC);
    return 0;
  }
  t->ts = ts;
  t->tid = tid;
  t->kind = KIND_PROC_EXEC;
  long n = bpf_probe_read_kernel_str(t->text, TEXT_MAX, (char *)args + (args->data_loc_filename & 0xffff));
  t->size = n > 0 ? n - 1 : 0;
  texts.ringbuf_submit(t, BPF_RB_FORCE_WAKEUP); /* the recorder looks for libraries that this program may load */
  return 0;
}

/* The heads of the kernel's siginfo and sigaction, which are those of the user's. */
struct signal_info {
  s32 signo, error, code, pad;
  u64 address;
};
#define SIGBUS 7
#define SIGSEGV 11
#define HANDLED_QUIETLY ((1 << 17) | (1 << 18) | (1 << 19) | (1 << 20) | (1 << 21) | (1 << 22) | (1 << 23) | (1 << 28))
/* SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH: they end nobody. */

/* A signal that nothing handles, as far as its default is to end the process. SIGKILL tells nothing of itself. */
RAW_TRACEPOINT_PROBE(signal_deliver) {
  u64 pid_tgid = bpf_get_current_pid_tgid(), handler = 0;
  u32 tgid = pid_tgid >> 32, number = ctx->args[0];
  if (number > 64 || (number < 32 && (HANDLED_QUIETLY >> number) & 1) || role_of(tgid) != ROLE_TARGET)
    return 0;
  bpf_probe_read_kernel(&handler, sizeof(handler), (void *)ctx->args[2]);
  if (handler) /* ignored or handled */
    return 0;
  struct signal_info info = {};
  bpf_probe_read_kernel(&info, sizeof(info), (void *)ctx->args[1]);
  u64 address = number == SIGBUS || number == SIGSEGV ? info.address : 0;
  emit(KIND_PROC_SIGNAL, tgid, (u32)pid_tgid, bpf_ktime_get_ns(), 0, number, address, 0, (s64)info.code);
  return 0;
}

TRACEPOINT_PROBE(sched, sched_process_exit) {
  u64 pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32, tid = pid_tgid, slot = tid & (THREAD_SLOTS - 1);
  u32 role = role_of(tgid);
  if (!role)
    return 0;
  struct call *call = calls.lookup(&slot);
  if (call && call->tid == tid) { /* exit_group does not return, and a fatal signal ends any call */
    call->ts = 0;
    call->tid = 0;
  }
  calls_displaced.delete(&tid);
  serves_target.delete(&tid);
  if (role == ROLE_TARGET)
    emit(KIND_PROC_EXIT, tgid, tid, bpf_ktime_get_ns(), 0, 0, 0, 0, 0);
#ifdef TELLS_GROUP_DEAD /* else the process goes when its number is used again */
  if (args->group_dead)
    processes.delete(&tgid);
#endif
  if (tid != tgid)
    processes.delete(&tid);
  return 0;
}
