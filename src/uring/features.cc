#include "uring/features.h"

#include <liburing.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ringmain {
namespace {

struct Name {
  const char* name;
  bool Features::*member;
};
constexpr Name kNames[] = {
    {"defer_taskrun", &Features::defer_taskrun},         {"registered_ring", &Features::registered_ring},
    {"multishot_accept", &Features::multishot_accept},   {"multishot_receive", &Features::multishot_receive},
    {"optlen", &Features::optlen},                       {"splice", &Features::splice},
};

constexpr unsigned kBaseFlags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;

// ENOMEM is retried: a process of the same user that just ended is still charged for its rings.
int InitRing(io_uring* ring, unsigned flags) {
  TimePoint give_up = Clock::now() + kSetupPatience;
  while (true) {
    io_uring_params params{};
    params.flags = kBaseFlags | flags;
    params.cq_entries = 16;
    int result = io_uring_queue_init_params(8, ring, &params);
    if (result != -ENOMEM || Clock::now() >= give_up) return result;
    std::this_thread::sleep_for(milliseconds(20));
  }
}

// The result of one submission on a ring of its own; the entry is filled by `prepare`.
template <typename Prepare>
int TryOperation(io_uring* ring, Prepare prepare) {
  io_uring_sqe* sqe = io_uring_get_sqe(ring);
  prepare(sqe);
  if (int submitted = io_uring_submit_and_wait(ring, 1); submitted < 0) return submitted;
  io_uring_cqe* cqe = nullptr;
  if (int error = io_uring_peek_cqe(ring, &cqe); error != 0) return error;
  int result = cqe->res;
  io_uring_cqe_seen(ring, cqe);
  return result;
}

// Receives on a pair of connected sockets whose other end is shut, so a supported operation ends with 0 and an unknown flag with
// EINVAL. `optlen` of sqe (6.17) is the same 32 bits as file_index in older headers.
int TryMultishotReceive(io_uring* ring, uint32_t optlen) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return -errno;
  shutdown(pair[1], SHUT_WR);
  int result = TryOperation(ring, [&](io_uring_sqe* sqe) {
    io_uring_prep_recv_multishot(sqe, pair[0], nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    sqe->file_index = optlen;
  });
  close(pair[0]);
  close(pair[1]);
  return result;
}

std::string KernelRelease() {
  utsname name{};
  uname(&name);
  return name.release;
}

std::string IoUringDisabledSysctl() {
  std::ifstream file("/proc/sys/kernel/io_uring_disabled");
  std::string value;
  file >> value;
  return value;
}

}  // namespace

std::string Features::ToString() const {
  std::string text;
  for (const Name& name : kNames)
    if (this->*name.member) absl::StrAppend(&text, text.empty() ? "" : " ", name.name);
  return text.empty() ? "none" : text;
}

std::string DescribeSetupError(int error) {
  switch (error) {
    case EPERM: {
      std::string sysctl = IoUringDisabledSysctl();
      if (sysctl == "1" || sysctl == "2")
        return absl::StrCat("io_uring is refused (EPERM): the sysctl kernel.io_uring_disabled is ", sysctl,
                            "; set it to 0 (sysctl -w kernel.io_uring_disabled=0), or with 1 put this user into the group "
                            "that kernel.io_uring_group names");
      return "io_uring is refused (EPERM): a seccomp profile blocks it, as the default ones of Docker 25 and containerd 2 do; "
             "run the container with the seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register "
             "(deploy/ has one)";
    }
    case ENOSYS:
      return "io_uring is not there (ENOSYS): the kernel is built without CONFIG_IO_URING, or a seccomp profile hides it; use "
             "Linux 6.1 or later and a profile that allows io_uring";
    case ENOMEM:
      return "io_uring got no memory (ENOMEM): the locked-memory limit of this user is used up; raise it (ulimit -l, "
             "LimitMEMLOCK= in systemd), lower `workers`, or grant CAP_IPC_LOCK";
    case EINVAL:
      return absl::StrCat("io_uring of this kernel (", KernelRelease(), ") is too old (EINVAL): Linux 6.1 or later is needed");
    case EMFILE:
    case ENFILE:
      return "io_uring got no file descriptor: raise the limit (ulimit -n, LimitNOFILE= in systemd)";
    default:
      return absl::StrCat("io_uring could not be set up: ", std::strerror(error));
  }
}

absl::StatusOr<Features> ProbeFeatures(std::string_view disabled) {
  Features features;
  io_uring ring{};
  int result = InitRing(&ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  features.defer_taskrun = result == 0;
  if (result == -EINVAL) result = InitRing(&ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN);
  if (result != 0) return absl::FailedPreconditionError(DescribeSetupError(-result));

  features.registered_ring = io_uring_register_ring_fd(&ring) == 1;

  constexpr unsigned kEntries = 2;
  void* memory = nullptr;
  bool buffers = posix_memalign(&memory, 4096, 4096) == 0;
  if (buffers) {
    std::memset(memory, 0, 4096);
    io_uring_buf_reg reg{};
    reg.ring_addr = reinterpret_cast<uintptr_t>(memory);
    reg.ring_entries = kEntries;
    buffers = io_uring_register_buf_ring(&ring, &reg, 0) == 0;
  }
  if (!buffers) {
    io_uring_queue_exit(&ring);
    std::free(memory);
    return absl::FailedPreconditionError(
        absl::StrCat("io_uring of this kernel (", KernelRelease(), ") has no provided buffer rings: Linux 6.1 or later is needed"));
  }
  auto* buffer_ring = static_cast<io_uring_buf_ring*>(memory);
  io_uring_buf_ring_init(buffer_ring);
  static char target[64];
  for (uint16_t i = 0; i < kEntries; ++i)
    io_uring_buf_ring_add(buffer_ring, target, sizeof(target), i, io_uring_buf_ring_mask(kEntries), i);
  io_uring_buf_ring_advance(buffer_ring, kEntries);

  features.multishot_receive = TryMultishotReceive(&ring, 0) >= 0;
  features.optlen = features.multishot_receive && TryMultishotReceive(&ring, 64) >= 0;
  // Multishot accept (5.19) is older than anything required here; on a socket that is not listening it must get as far as EINVAL
  // from accept itself, so it is assumed and only ever turned off by name.
  features.multishot_accept = true;
  features.splice = true;
  io_uring_queue_exit(&ring);
  std::free(memory);

  for (absl::string_view item : absl::StrSplit(absl::string_view(disabled.data(), disabled.size()), ',', absl::SkipWhitespace())) {
    item = absl::StripAsciiWhitespace(item);
    bool known = false;
    for (const Name& name : kNames)
      if (item == name.name) {
        features.*name.member = false;
        known = true;
      }
    if (!known) {
      std::string all;
      for (const Name& name : kNames) absl::StrAppend(&all, " ", name.name);
      return absl::InvalidArgumentError(absl::StrCat("RINGMAIN_DISABLE: unknown feature '", item, "'; known are:", all));
    }
  }
  if (!features.multishot_receive) features.optlen = false;
  return features;
}

}  // namespace ringmain
