/* The kernel's type names, for a 64-bit machine. */
#ifndef CVTRACE_TYPES_H
#define CVTRACE_TYPES_H

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;

typedef __u64 __aligned_u64 __attribute__((aligned(8)));

typedef __s8 s8;
typedef __u8 u8;
typedef __s16 s16;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;

typedef __s8 int8_t;
typedef __u8 uint8_t;
typedef __s16 int16_t;
typedef __u16 uint16_t;
typedef __s32 int32_t;
typedef __u32 uint32_t;
typedef __s64 int64_t;
typedef __u64 uint64_t;

typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u16 __le16;
typedef __u32 __le32;
typedef __u64 __le64;
typedef __u16 __sum16;
typedef __u32 __wsum;

typedef unsigned long size_t;
typedef long ssize_t;
typedef unsigned long uintptr_t;
typedef long intptr_t;
typedef long long loff_t;
typedef unsigned int dev_t; /* 12 bits of major, 20 of minor */
typedef int pid_t;
typedef unsigned int uid_t;
typedef unsigned int gid_t;
typedef unsigned short umode_t;
typedef unsigned int gfp_t;
typedef unsigned long sector_t;
typedef unsigned long ino_t;
typedef unsigned long pgoff_t;
typedef int key_serial_t;
typedef int clockid_t;

#ifndef __cplusplus
typedef _Bool bool;
enum { false = 0, true = 1 };
#endif
#ifndef NULL
#define NULL ((void *)0)
#endif

enum fuse_opcode { CVTRACE_FUSE_OPCODE_IS_32_BITS = 0x7fffffff };

#endif
