/* Included by BCC before anything else, as in a kernel build. */
#ifndef CVTRACE_KCONFIG_H
#define CVTRACE_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#endif
