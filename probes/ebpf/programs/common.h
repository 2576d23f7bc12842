/*
 * What every program shares: the two rings, who is observed, and the count of losses.
 *
 * EVENT_PAGES, TEXT_PAGES, EVENT_WAKE, TEXT_WAKE and the numbers of SLOTS come from the loader. What the recorder knows as well, structs
 * and constants, is made from probes/ebpf/records.py: struct event, text, call, absence, serving, request and fuse_*; KIND_*, OP_*,
 * ROLE_*, FUNCTION_*, CLIENT_* and others.
 *
 * What is under way is kept in slots, by the low bits of its number: where the caches are cold, a lookup in a hash costs more than all the
 * rest of a record, and one in an array nearly nothing. What finds its slot taken is kept in a hash.
 */
#include <linux/types.h>
#include <uapi/linux/ptrace.h>

/* The helpers under names of our own: for each call by its own name, BCC parses /proc/kallsyms (0.1 s each) to see whether the
   kernel has it. All kernels with ring buffers (5.8) do. */
static long (*read_user)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user;
static long (*read_user_string)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user_str;

BPF_RINGBUF_OUTPUT(events, EVENT_PAGES);
BPF_RINGBUF_OUTPUT(texts, TEXT_PAGES);

/* Who is observed: tgid -> role. Written by the loader for daemons and the first process of the target, by fork for the rest. */
BPF_HASH(processes, u32, u32, 16384);

/* The FUSE mounts that the loader knows: kernel dev_t -> st_dev as stat(2) gives it. All are in the hash. */
struct device {
  u64 dev; /* 0: none */
  u64 st_dev;
  u32 everybody; /* an observed mount: everybody's requests are recorded; else those of the target alone */
  u32 server; /* who answered a request last, 0 until then */
};
BPF_ARRAY(device_slots, struct device, DEVICE_SLOTS);
BPF_HASH(devices, u32, struct device, 1024);

static __always_inline struct device *known_device(u32 dev) {
  u32 slot = dev & (DEVICE_SLOTS - 1);
  struct device *device = device_slots.lookup(&slot);
  if (!device || !device->dev)
    return 0;
  return device->dev == dev ? device : devices.lookup(&dev);
}

static __always_inline u64 *observed_device(u32 dev) {
  struct device *device = known_device(dev);
  return device ? &device->st_dev : 0;
}

/* Events that found no room in a ring, by kind; + LOST_TEXT for their texts. */
BPF_PERCPU_ARRAY(lost, u64, 256);

static __always_inline void count_loss(u32 slot) {
  u64 *count = lost.lookup(&slot);
  if (count)
    *count += 1;
}

/* The recorder sleeps until its time is over, or until a CPU has written so many records that the ring may be filling. */
#define EVENTS 0
#define TEXTS 1
BPF_PERCPU_ARRAY(written, u32, 2);

static __always_inline u64 wake_up(u32 ring, u32 every) {
  u32 *count = written.lookup(&ring);
  if (!count || ++*count < every)
    return BPF_RB_NO_WAKEUP;
  *count = 0;
  return BPF_RB_FORCE_WAKEUP;
}

/* Let the next record of a ring wake the recorder. */
static __always_inline void hurry(u32 ring) {
  u32 *count = written.lookup(&ring);
  if (count)
    *count = 0x7fffffff;
}

static __always_inline u32 role_of(u32 tgid) {
  u32 *role = processes.lookup(&tgid);
  return role ? *role : 0;
}

/* A process that the loader names is known to it by a number of a PID namespace where the recorder does not see the initial one. What
   it has in the initial one is known when it is first at work. */
struct namesake {
  u64 namespace; /* inode of the PID namespace */
  u64 number;
};
BPF_HASH(awaited, struct namesake, u32, 256); /* -> role */
BPF_HASH(recognised, struct namesake, u32, 256); /* -> tgid */

struct namespace_numbers {
  u32 tid, tgid;
};
static long (*numbers_in_namespace)(u64 dev, u64 inode, struct namespace_numbers *numbers, u32 size) =
    (void *)BPF_FUNC_get_ns_current_pid_tgid;

#ifdef NAMESPACES
BPF_ARRAY(namespaces, u64, NAMESPACES); /* inodes; 0: none from here on */

static __always_inline u32 recognise(u32 tgid) {
#pragma unroll
  for (u32 i = 0; i < NAMESPACES; i++) {
    u32 slot = i;
    struct namespace_numbers numbers = {};
    struct namesake key = {};
    u64 *inode = namespaces.lookup(&slot);
    if (!inode || !*inode)
      return 0;
    if (numbers_in_namespace(NAMESPACE_DEVICE, *inode, &numbers, sizeof(numbers)))
      continue; /* it is in another one */
    key.namespace = *inode;
    key.number = numbers.tgid;
    u32 *role = awaited.lookup(&key);
    if (!role)
      return 0;
    u32 role_of_process = *role;
    processes.update(&tgid, &role_of_process);
    recognised.update(&key, &tgid);
    awaited.delete(&key);
    return role_of_process;
  }
  return 0;
}
#endif

/* The role of the process at work, which is `tgid`. */
static __always_inline u32 role_of_current(u32 tgid) {
  u32 role = role_of(tgid);
#ifdef NAMESPACES
  if (!role)
    role = recognise(tgid);
#endif
  return role;
}

static __always_inline void emit(u16 kind, u32 tgid, u32 tid, u64 ts, u64 dur, s32 ret, u64 a, u64 b, u64 c) {
  struct event *e = events.ringbuf_reserve(sizeof(struct event));
  if (!e) {
    count_loss(kind);
    return;
  }
  e->ts = ts;
  e->dur = dur;
  e->tgid = tgid;
  e->tid = tid;
  e->kind = kind;
  e->cpu = bpf_get_smp_processor_id();
  e->ret = ret;
  e->a = a;
  e->b = b;
  e->c = c;
  events.ringbuf_submit(e, wake_up(EVENTS, EVENT_WAKE));
}

static __always_inline int ends_in_runtime(char *text, u32 size) {
  u64 tail = 0;
  u32 at = size - sizeof(tail);
  if (size < sizeof(tail) || at > TEXT_MAX - sizeof(tail))
    return 0;
  bpf_probe_read_kernel(&tail, sizeof(tail), text + at);
  return IS_RUNTIME_TAIL(tail);
}

/* Text of the process: `size` bytes, of which the reader learns when they are more than TEXT_MAX, or up to its NUL (-1). */
static __always_inline void emit_text(u16 kind, u32 tid, u64 ts, u64 user_address, s64 size, u16 flags) {
  struct text *t = texts.ringbuf_reserve(sizeof(struct text));
  if (!t) {
    count_loss(LOST_TEXT + kind);
    return;
  }
  t->ts = ts;
  t->tid = tid;
  t->kind = kind | flags;
  if (size < 0) {
    long n = read_user_string(t->text, TEXT_MAX, (void *)user_address);
    t->size = n > 0 ? n - 1 : 0;
  } else {
    u32 n = size < TEXT_MAX ? size : TEXT_MAX;
    if (n > TEXT_MAX || read_user(t->text, n, (void *)user_address))
      n = 0;
    t->size = n ? size : 0;
  }
  u64 wake = wake_up(TEXTS, TEXT_WAKE);
  if (kind == KIND_SYS_OPEN && ends_in_runtime(t->text, t->size))
    wake = BPF_RB_FORCE_WAKEUP; /* calls of the library are soon to be attached to */
  texts.ringbuf_submit(t, wake);
}
