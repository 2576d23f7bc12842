/*
 * FUSE requests from the kernel's own struct fuse_req: on kernels without FUSE tracepoints from kprobes on the functions that put
 * a request into the daemon's queue and end it; on those whose tracepoint comes before the request has its number (6.12)
 * from the raw tracepoints. The loader says where the kernel keeps the members (OFFSET_struct_member, from BTF), and
 * calls these functions with the address of the request.
 */

#ifdef OFFSET_fuse_conn_dev
static __always_inline u32 connection_of(u64 request) {
  u32 connection = 0;
  u64 mount = read_pointer(request + OFFSET_fuse_req_fm);
  u64 fuse_conn = read_pointer(mount + OFFSET_fuse_mount_fc);
  read_kernel(&connection, sizeof(connection), (void *)(fuse_conn + OFFSET_fuse_conn_dev));
  return connection;
}
#else
static __always_inline u32 device_of(u64 mount) {
  u32 device = 0;
  u64 super_block = read_pointer(mount + OFFSET_fuse_mount_sb);
  read_kernel(&device, sizeof(device), (void *)(super_block + OFFSET_super_block_s_dev));
  return device;
}

/* Without BTF: a kernel with CONFIG_VIRTIO_FS has a pointer more before `fm`. What is not a mount that is known is not taken. */
static __always_inline u32 connection_of(u64 request) {
  u32 connection = device_of(read_pointer(request + OFFSET_fuse_req_fm));
  if (!observed_device(connection))
    connection = device_of(read_pointer(request + OFFSET_fuse_req_fm + 8));
  return observed_device(connection) ? connection : 0;
}
#endif

/* An address is a multiple of more than a hundred. */
static __always_inline u32 number_of(u64 request) {
  return request >> 7;
}

/* A kprobe comes before its length, a tracepoint perhaps before its unique is in the header: both are there when it ends. */
static __always_inline int fuse_request_queued(void *ctx, u64 request) {
  struct fuse_head head = {};
  read_kernel(&head, sizeof(head), (void *)(request + OFFSET_fuse_req_in_h));
  return request_sent(connection_of(request), request, number_of(request), head.unique, head.opcode, head.len);
}

static __always_inline int fuse_request_done(void *ctx, u64 request) {
  struct fuse_head head = {};
  s32 error = 0;
  read_kernel(&head, sizeof(head), (void *)(request + OFFSET_fuse_req_in_h));
  read_kernel(&error, sizeof(error), (void *)(request + OFFSET_fuse_req_out_h_error));
  return request_ended(connection_of(request), request, number_of(request), head.unique, error, head.len);
}
