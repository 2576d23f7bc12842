/*
 * When threads of the target and of the daemons are off the CPU, since when they could run again, and who woke them: one
 * record per absence.
 */

struct absence {
  u64 ts;
  u64 wake_ts;
  u64 state;
  u32 tgid;
  u32 waker;
};
BPF_HASH(absences, u32, struct absence, 32768);

#define DEAD 0x30 /* 'X' and 'Z' in the print format of sched_switch: this thread does not come back */

TRACEPOINT_PROBE(sched, sched_switch) {
  u64 now = bpf_ktime_get_ns(), pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32, prev = pid_tgid, next = args->next_pid;
  if (prev && !(args->prev_state & DEAD) && role_of(tgid)) {
    /* Above the low byte are flags such as "preempted" (0x100). */
    struct absence gone = {.ts = now, .state = args->prev_state & 0xff, .tgid = tgid};
    if (absences.update(&prev, &gone))
      count_loss(KIND_OFFCPU);
  }
  struct absence *back = absences.lookup(&next);
  if (back) {
    emit(KIND_OFFCPU, back->tgid, next, back->ts, now - back->ts, 0, back->wake_ts, back->waker, back->state);
    absences.delete(&next);
  }
  return 0;
}

/* sched_waking runs in the waker, sched_wakeup perhaps on the CPU that gets the thread. */
TRACEPOINT_PROBE(sched, sched_waking) {
  u32 tid = args->pid;
  struct absence *gone = absences.lookup(&tid);
  if (gone && !gone->wake_ts) {
    gone->waker = bpf_get_current_pid_tgid();
    gone->wake_ts = bpf_ktime_get_ns();
  }
  return 0;
}
