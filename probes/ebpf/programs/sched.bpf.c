/*
 * When threads of the target and of the daemons are off the CPU, since when they could run again, and who woke them: one
 * record per absence. A thread keeps its entry until it ends.
 */

BPF_F_TABLE("array", u32, struct absence, off_cpu, THREAD_SLOTS, BPF_F_MMAPABLE);
BPF_HASH(off_cpu_displaced, u32, struct absence, 1024);

/* The absence of a thread, if it is observed and was away before. */
static __always_inline struct absence *absence_of(u32 tid) {
  u32 slot = tid & (THREAD_SLOTS - 1);
  struct absence *absence = off_cpu.lookup(&slot);
  if (absence && absence->tid == tid)
    return absence;
  return any_displaced(OFF_CPU) ? off_cpu_displaced.lookup(&tid) : 0;
}

static __always_inline void leaves(struct absence *gone) {
  u32 slot = gone->tid & (THREAD_SLOTS - 1);
  struct absence *absence = off_cpu.lookup(&slot);
  if (absence && !absence->ts) {
    *absence = *gone;
    return;
  }
  displace(OFF_CPU);
  if (off_cpu_displaced.update(&gone->tid, gone))
    count_loss(KIND_OFFCPU);
}

/* When each CPU was last seen to switch. Some switches are not seen: a BPF program is not run where it would interrupt another on that
   CPU, nor, on some machines, in the threads of the host's agent. */
BPF_PERCPU_ARRAY(last_switch, u64, 1);

#define DEAD 0x30 /* 'X' and 'Z' in the print format of sched_switch: this thread does not come back */

static __always_inline void forget(u32 tid, struct absence *absence) {
  if (absence) {
    absence->ts = 0;
    absence->tid = 0;
  }
  if (any_displaced(OFF_CPU))
    off_cpu_displaced.delete(&tid);
}

static __always_inline void came_back(u32 tid, struct absence *gone, u64 at) {
  emit(KIND_OFFCPU, gone->tgid, tid, gone->ts, at - gone->ts, 0, gone->wake_ts, gone->waker, gone->state);
}

/* It came back in a switch that was not seen: after the last on this CPU, and after its wake-up. A thread that was only preempted needed
   none: one that it got is of later, when it was back and about to wait. A wake-up that is later than `gone` is of that absence. */
static __always_inline void came_back_unseen(struct absence *former, struct absence *gone, u64 last) {
  u64 at = last > former->ts ? last : former->ts, woken = former->wake_ts;
  if (woken > gone->ts) {
    gone->wake_ts = woken;
    gone->waker = former->waker;
  }
  if (!former->state || woken > gone->ts)
    former->wake_ts = former->waker = woken = 0;
  came_back(former->tid, former, woken > at ? woken : at);
}

TRACEPOINT_PROBE(sched, sched_switch) {
  u64 now = bpf_ktime_get_ns(), pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32, prev = pid_tgid, next = args->next_pid, zero = 0;
  u64 *last = last_switch.lookup(&zero);
  if (!last)
    return 0;
  struct absence *former = absence_of(prev);
  if (prev && (former || role_of_current(tgid))) {
    /* Above the low byte are flags such as "preempted" (0x100). */
    struct absence gone = {.tid = prev, .ts = now, .tgid = tgid, .state = args->prev_state & 0xff};
    if (former && former->ts)
      came_back_unseen(former, &gone, *last);
    if (args->prev_state & DEAD)
      forget(prev, former);
    else if (former)
      *former = gone;
    else
      leaves(&gone);
  }
  *last = now;
  struct absence *back = absence_of(next);
  if (back && back->ts) {
    came_back(next, back, now);
    back->ts = 0;
  }
  return 0;
}

/* sched_waking runs in the waker, sched_wakeup perhaps on the CPU that gets the thread. */
TRACEPOINT_PROBE(sched, sched_waking) {
  u32 tid = args->pid;
  struct absence *gone = absence_of(tid);
  if (gone && gone->ts && !gone->wake_ts) {
    gone->waker = bpf_get_current_pid_tgid();
    gone->wake_ts = bpf_ktime_get_ns();
  }
  return 0;
}
