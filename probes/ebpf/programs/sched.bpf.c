/*
 * When threads of the target and of the daemons are off the CPU, since when they could run again, and who woke them: one
 * record per absence. Each thread has one entry for all its absences, until it ends: adding and removing costs more than looking.
 */

struct absence {
  u64 ts; /* 0: it is there */
  u64 wake_ts;
  u64 state;
  u32 tgid;
  u32 waker;
};
BPF_HASH(absences, u32, struct absence, 32768);

/* When each CPU was last seen to switch. Some switches are not seen: a BPF program is not run where it would interrupt another on that
   CPU, nor, on some machines, in the threads of the host's agent. */
BPF_PERCPU_ARRAY(last_switch, u64, 1);

#define DEAD 0x30 /* 'X' and 'Z' in the print format of sched_switch: this thread does not come back */

static __always_inline void came_back(u32 tid, struct absence *gone, u64 at) {
  emit(KIND_OFFCPU, gone->tgid, tid, gone->ts, at - gone->ts, 0, gone->wake_ts, gone->waker, gone->state);
}

TRACEPOINT_PROBE(sched, sched_switch) {
  u64 now = bpf_ktime_get_ns(), pid_tgid = bpf_get_current_pid_tgid();
  u32 tgid = pid_tgid >> 32, prev = pid_tgid, next = args->next_pid, zero = 0;
  u64 *last = last_switch.lookup(&zero);
  if (!last)
    return 0;
  struct absence *former = absences.lookup(&prev);
  if (former || (prev && role_of(tgid))) {
    /* Above the low byte are flags such as "preempted" (0x100). */
    struct absence gone = {.ts = now, .state = args->prev_state & 0xff, .tgid = tgid};
    if (former && former->ts) { /* it came back in a switch that was not seen: after its wake-up, and after the last on this CPU */
      u64 at = former->wake_ts > *last ? former->wake_ts : *last;
      came_back(prev, former, at > former->ts ? at : former->ts);
    }
    if (args->prev_state & DEAD)
      absences.delete(&prev);
    else if (former)
      *former = gone;
    else if (absences.update(&prev, &gone))
      count_loss(KIND_OFFCPU);
  }
  *last = now;
  struct absence *back = absences.lookup(&next);
  if (back && back->ts) {
    came_back(next, back, now);
    back->ts = 0;
  }
  return 0;
}

/* sched_waking runs in the waker, sched_wakeup perhaps on the CPU that gets the thread. */
TRACEPOINT_PROBE(sched, sched_waking) {
  u32 tid = args->pid;
  struct absence *gone = absences.lookup(&tid);
  if (gone && gone->ts && !gone->wake_ts) {
    gone->waker = bpf_get_current_pid_tgid();
    gone->wake_ts = bpf_ktime_get_ns();
  }
  return 0;
}
