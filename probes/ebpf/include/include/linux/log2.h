/* BCC rounds map sizes with this; it has to be a constant expression. */
#ifndef CVTRACE_LOG2_H
#define CVTRACE_LOG2_H
#define roundup_pow_of_two(n) \
  ((n) <= 1 ? 1UL : (1UL << (64 - __builtin_clzl((unsigned long)(n) - 1))))
#endif
