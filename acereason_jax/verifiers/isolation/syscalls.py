"""The system calls that `sandbox` refuses, and their numbers.

`DENIED` are refused whatever their arguments; the others of `NUMBERS` are
judged by their arguments, in `sandbox`. Numbers above `LAST` are newer than
this table, so they are refused as unknown to the kernel.
"""

# set_mempolicy_home_node; numbers are the same on all machines from 424 on.
LAST = 450

# name x86-64 aarch64, '-' where the machine has none.
_DENIED = """
# The network.
socket 41 198
socketpair 53 199
connect 42 203
bind 49 200
# With an address they reach any socket that is a file, and they carry files.
sendmsg 46 211
sendmmsg 307 269
recvmsg 47 212
recvmmsg 299 243
# Programs and processes.
execve 59 221
execveat 322 281
fork 57 -
vfork 58 -
# Other processes: their memory, signals, time and place.
ptrace 101 117
kcmp 312 272
process_vm_readv 310 270
process_vm_writev 311 271
process_madvise 440 440
process_mrelease 448 448
migrate_pages 256 238
move_pages 279 239
tkill 200 130
rt_sigqueueinfo 129 138
rt_tgsigqueueinfo 297 240
pidfd_open 434 434
pidfd_send_signal 424 424
pidfd_getfd 438 438
sched_setaffinity 203 122
sched_setattr 314 274
sched_setparam 142 118
sched_setscheduler 144 119
setpriority 141 140
ioprio_set 251 30
# What processes share without a file.
shmget 29 194
shmat 30 196
shmctl 31 195
shmdt 67 197
msgget 68 186
msgctl 71 187
msgrcv 70 188
msgsnd 69 189
semget 64 190
semctl 66 191
semop 65 193
semtimedop 220 192
# Memory that counts for no process, or for all of them together.
memfd_create 319 279
memfd_secret 447 447
io_setup 206 0
mq_open 240 180
mq_unlink 241 181
mq_timedsend 242 182
mq_timedreceive 243 183
mq_notify 244 184
mq_getsetattr 245 185
add_key 248 217
request_key 249 218
keyctl 250 219
# Doors past this filter.
io_uring_setup 425 425
io_uring_enter 426 426
io_uring_register 427 427
bpf 321 280
userfaultfd 323 282
perf_event_open 298 241
fanotify_init 300 262
inotify_init 253 -
inotify_init1 294 26
inotify_add_watch 254 27
name_to_handle_at 303 264
open_by_handle_at 304 265
# Files: making, removing, renaming, locking, owners, modes, times.
creat 85 -
truncate 76 45
rename 82 -
renameat 264 38
renameat2 316 276
mkdir 83 -
mkdirat 258 34
rmdir 84 -
link 86 -
linkat 265 37
symlink 88 -
symlinkat 266 36
unlink 87 -
unlinkat 263 35
mknod 133 -
mknodat 259 33
flock 73 32
chmod 90 -
fchmod 91 52
fchmodat 268 53
chown 92 -
fchown 93 55
lchown 94 -
fchownat 260 54
utime 132 -
utimes 235 -
utimensat 280 88
futimesat 261 -
setxattr 188 5
lsetxattr 189 6
fsetxattr 190 7
removexattr 197 14
lremovexattr 198 15
getxattr 191 8
lgetxattr 192 9
fgetxattr 193 10
listxattr 194 11
llistxattr 195 12
flistxattr 196 13
fremovexattr 199 16
# The machine: all its disks at once; the rest where the worker runs as root.
sync 162 81
syncfs 306 267
mount 165 40
umount2 166 39
mount_setattr 442 442
move_mount 429 429
open_tree 428 428
fsopen 430 430
fsconfig 431 431
fsmount 432 432
fspick 433 433
pivot_root 155 41
chroot 161 51
unshare 272 97
setns 308 268
init_module 175 105
finit_module 313 273
delete_module 176 106
kexec_load 246 104
kexec_file_load 320 294
reboot 169 142
swapon 167 224
swapoff 168 225
settimeofday 164 170
clock_settime 227 112
clock_adjtime 305 266
adjtimex 159 171
sethostname 170 161
setdomainname 171 162
iopl 172 -
ioperm 173 -
modify_ldt 154 -
acct 163 89
quotactl 179 60
quotactl_fd 443 443
syslog 103 116
vhangup 153 58
"""
_BY_ARGUMENT = """
open 2 -
openat 257 56
openat2 437 437
sendto 44 206
clone 56 220
clone3 435 435
kill 62 129
tgkill 234 131
prlimit64 302 261
prctl 157 167
fcntl 72 25
ioctl 16 29
"""


def _rows(table: str) -> list[list[str]]:
  lines = (line for line in table.splitlines() if not line.startswith('#'))
  return [line.split() for line in lines if line]


def _column(place: int) -> dict[str, int]:
  rows = _rows(_DENIED) + _rows(_BY_ARGUMENT)
  return {r[0]: int(r[place]) for r in rows if r[place] != '-'}


DENIED = tuple(name for name, *_ in _rows(_DENIED))
NUMBERS = {'x86_64': _column(1), 'aarch64': _column(2)}
