/* FUSE requests as the kernel's tracepoints tell them (6.11): sent by the thread that wants the data, ended by the reply. */

TRACEPOINT_PROBE(fuse, fuse_request_send) {
  return request_sent(args->connection, args->unique, args->unique >> 1, args->unique, args->opcode, args->len);
}

TRACEPOINT_PROBE(fuse, fuse_request_end) {
  return request_ended(args->connection, args->unique, args->unique >> 1, args->unique, args->error, 0);
}
