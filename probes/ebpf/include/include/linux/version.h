/* BCC wants a version for programs of type kprobe; kernels since 5.0 ignore it. */
#define LINUX_VERSION_CODE 0x050000
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
