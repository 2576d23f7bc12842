/*
 * Pages of files on kernels without filemap tracepoints: the same records from kprobes on the functions that handle a page
 * fault on a file, map what is cached around it, and copy from the page cache. Return probes tell more than the tracepoints do:
 * how long a fault took, and that a fault-around really mapped the page that was wanted.
 */

/* A call of one of these functions, on an observed file, that has not returned. The kernel tells of a return only if it had room
   to note the entry (kretprobe's maxactive): a call that is still here when its thread enters again was not told of. */
struct page_call {
  u64 ts;
  u64 st_dev;
  u64 inode;
  u64 index;
  u64 last_index;
  u64 vmf;
  u32 tgid;
  u32 pad;
};
BPF_HASH(faults, u32, struct page_call, 16384);
BPF_HASH(fault_arounds, u32, struct page_call, 16384);
BPF_HASH(page_reads, u32, struct page_call, 16384);

#define VM_FAULT_NOPAGE 0x100
#define PAGE_BITS 12

/* Fill in whose call it is and on which file; tell whether it is observed. */
static __always_inline int begins(struct page_call *call, u64 file) {
  u64 pid_tgid = bpf_get_current_pid_tgid();
  call->tgid = pid_tgid >> 32;
  if (role_of_current(call->tgid) != ROLE_TARGET)
    return 0;
  u64 inode = read_pointer(read_pointer(file + OFFSET_file_f_mapping) + OFFSET_address_space_host);
  u32 dev = 0;
  read_kernel(&dev, sizeof(dev), (void *)(read_pointer(inode + OFFSET_inode_i_sb) + OFFSET_super_block_s_dev));
  u64 *st_dev = observed_device(dev);
  if (!st_dev)
    return 0;
  call->st_dev = *st_dev;
  call->inode = read_pointer(inode + OFFSET_inode_i_ino);
  call->ts = bpf_ktime_get_ns();
  return 1;
}

static __always_inline u64 file_of_fault(u64 vmf) {
  return read_pointer(read_pointer(vmf + OFFSET_vm_fault_vma) + OFFSET_vm_area_struct_vm_file);
}

static __always_inline void emit_range(u16 kind, u32 tid, struct page_call *call) {
  u64 pages = call->last_index - call->index + 1;
  emit(kind, call->tgid, tid, bpf_ktime_get_ns(), 0, 0, call->st_dev, call->inode,
       call->index | (pages < 0xffff ? pages : 0xffff) << 48);
}

static __always_inline int fault_begins(struct pt_regs *ctx, u64 vmf) {
  u32 tid = bpf_get_current_pid_tgid();
  struct page_call *missed = faults.lookup(&tid), call = {};
  if (missed) { /* its return was not told: the fault, then, without its duration */
    emit(KIND_FAULT, missed->tgid, tid, missed->ts, 0, 0, missed->st_dev, missed->inode, missed->index);
    faults.delete(&tid);
  }
  if (!begins(&call, file_of_fault(vmf)))
    return 0;
  call.index = read_pointer(vmf + OFFSET_vm_fault_pgoff);
  if (faults.update(&tid, &call))
    count_loss(KIND_FAULT);
  return 0;
}

static __always_inline int fault_ends(struct pt_regs *ctx) {
  u32 tid = bpf_get_current_pid_tgid();
  struct page_call *call = faults.lookup(&tid);
  if (!call)
    return 0;
  emit(KIND_FAULT, call->tgid, tid, call->ts, bpf_ktime_get_ns() - call->ts, 0, call->st_dev, call->inode, call->index);
  faults.delete(&tid);
  return 0;
}

static __always_inline int fault_around_begins(struct pt_regs *ctx, u64 vmf) {
  u32 tid = bpf_get_current_pid_tgid();
  struct page_call call = {};
  if (!begins(&call, file_of_fault(vmf)))
    return 0;
  if (fault_arounds.lookup(&tid)) /* its return was not told */
    count_loss(KIND_PAGE_MAP);
  call.vmf = vmf;
  call.index = PT_REGS_PARM2(ctx);
  call.last_index = PT_REGS_PARM3(ctx);
  if (fault_arounds.update(&tid, &call))
    count_loss(KIND_PAGE_MAP);
  return 0;
}

/* It returns that it mapped the page wanted; before 5.12, nothing, but it left the page table's entry of a page that it mapped. */
static __always_inline int has_mapped(struct pt_regs *ctx, struct page_call *call) {
#if RETURNS_filemap_map_pages
  return PT_REGS_RC(ctx) & VM_FAULT_NOPAGE;
#else
  return read_pointer(call->vmf + OFFSET_vm_fault_pte) != 0;
#endif
}

static __always_inline int fault_around_ends(struct pt_regs *ctx) {
  u32 tid = bpf_get_current_pid_tgid();
  struct page_call *call = fault_arounds.lookup(&tid);
  if (!call)
    return 0;
  if (has_mapped(ctx, call))
    emit_range(KIND_PAGE_MAP, tid, call);
  fault_arounds.delete(&tid);
  return 0;
}

/* At its return, as the tracepoint: the pages are there then, and only then. */
static __always_inline int page_read_begins(struct pt_regs *ctx, u64 kiocb) {
  u32 tid = bpf_get_current_pid_tgid();
  struct page_call call = {};
  if (!begins(&call, read_pointer(kiocb + OFFSET_kiocb_ki_filp)))
    return 0;
  if (page_reads.lookup(&tid)) /* its return was not told */
    count_loss(KIND_PAGE_READ);
  call.index = read_pointer(kiocb + OFFSET_kiocb_ki_pos); /* in bytes until it ends */
  if (page_reads.update(&tid, &call))
    count_loss(KIND_PAGE_READ);
  return 0;
}

static __always_inline int page_read_ends(struct pt_regs *ctx) {
  u32 tid = bpf_get_current_pid_tgid();
  struct page_call *call = page_reads.lookup(&tid);
  if (!call)
    return 0;
  s64 bytes = PT_REGS_RC(ctx);
  if (bytes > 0) {
    call->last_index = (call->index + bytes - 1) >> PAGE_BITS;
    call->index >>= PAGE_BITS;
    emit_range(KIND_PAGE_READ, tid, call);
  }
  page_reads.delete(&tid);
  return 0;
}
