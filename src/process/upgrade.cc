#include "process/upgrade.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "process/process.h"
#include "process/takeover_socket.h"

namespace ringmain {
namespace {

// For the new process to start, get ready, and take everything over.
constexpr Duration kPatience = seconds(120);

struct Call {
  char** arguments = nullptr;
  int error = 0;
};

// In the new process, which shares our memory until it has become the other program: system calls only. It gets the signal mask and actions that
// a shell would give it.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize("address", "thread")))
#endif
int Become(void* argument) {
  Call& call = *static_cast<Call*>(argument);
  sigset_t none;
  sigemptyset(&none);
  signal(SIGPIPE, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv(call.arguments[0], call.arguments);
  call.error = errno;
  _exit(127);
}

// A sibling, not a child (CLONE_PARENT, clone(2)): it lives on when we have ended, and a service manager that started us has it for a child,
// without which systemd does not wait for its end when it stops the service (main_pid_alien in its service.c, version 252). Returns an errno.
int SpawnSibling(const std::vector<std::string>& command, pid_t& pid, UniqueFd& process) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  Call call{arguments.data()};
  alignas(64) std::array<char, 64 << 10> stack;
  int pidfd = -1;
  pid = clone(Become, stack.data() + stack.size(), CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_PIDFD | SIGCHLD, &call, &pidfd);
  if (pid < 0) return errno;
  process.reset(pidfd);
  return call.error;
}

// A container ends with its first process, and that one often with the child it waits for. Whoever else waits for our end would take it for
// the end of the service; a service manager that listens is told better.
bool EndsItsContainer() {
  if (getpid() == 1) return true;
  std::error_code error;
  // The number of the first PID namespace is fixed: PROC_PID_INIT_INO in include/linux/proc_ns.h.
  bool in_container = std::filesystem::read_symlink("/proc/self/ns/pid", error).string() != "pid:[4026531836]";
  return in_container && getppid() <= 1 && std::getenv("NOTIFY_SOCKET") == nullptr;
}

}  // namespace

std::vector<std::string> SuccessorCommand(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = arguments;
  if (command.empty()) return command;  // in a test
  std::error_code error;
  if (command[0].find('/') == std::string::npos)  // the shell found it in PATH
    command[0] = std::filesystem::read_symlink("/proc/self/exe", error).string();
  else if (command[0][0] != '/')
    command[0] = (std::filesystem::current_path(error) / command[0]).string();
  for (const char* flag : {"--takeover", "--takeover-only"}) std::erase(command, flag);
  command.push_back("--takeover-only");
  return command;
}

absl::StatusOr<std::unique_ptr<Upgrade>> Upgrade::Begin(Channel& asker, const std::vector<std::string>& command) {
  if (EndsItsContainer())
    return absl::FailedPreconditionError("the container would end with this process; start a second container instead, with run --takeover and "
                                         "the same takeover.socket");
  pid_t pid = 0;
  UniqueFd process;
  if (int error = SpawnSibling(command, pid, process); error != 0)
    return absl::FailedPreconditionError(absl::StrCat("cannot start ", command[0], ": ", std::strerror(error)));
  return std::unique_ptr<Upgrade>(new Upgrade(std::move(asker), pid, std::move(process)));
}

void Upgrade::EndIfOverdue(TimePoint now) {
  if (now < deadline_) return;
  overdue_ = true;
  (void)syscall(SYS_pidfd_send_signal, process_.get(), SIGKILL, nullptr, 0);
}

std::string Upgrade::Failed() {
  std::string end = overdue_ ? absl::StrCat("the new process (pid ", pid_, ") did not take over within ", kTimeout / seconds(1), " s and was ended")
                             : absl::StrCat("the new process (pid ", pid_, ") ended before it took over");
  asker_.Abort(absl::FailedPreconditionError(absl::StrCat(end, "; why is in its log, which is the running process's; that one goes on")));
  return end;
}

void Upgrade::Succeeded(std::optional<pid_t> successor, size_t sessions, milliseconds pause) {
  (void)asker_.Send(MessageType::kUpgraded, absl::StrCat("process ", successor.value_or(pid_), " took over ", sessions, sessions == 1 ? " session" : " sessions",
                                                         ", which stood still for ", pause.count(), " ms"));
}

int RequestUpgrade(const Config& config) {
  auto failure = [](std::string_view why) {
    std::cerr << "ringmain: upgrade: " << why << std::endl;
    return kExitFailure;
  };
  const std::string& path = config.takeover.socket;
  if (path.empty()) {
    failure("takeover.socket is not in the configuration: the path where the running process answers");
    return kExitUsage;
  }
  absl::StatusOr<Channel> channel = ConnectForTakeover(path);
  if (absl::IsNotFound(channel.status())) return failure(absl::StrCat(std::string(channel.status().message()), "; start it with ringmain run"));
  if (!channel.ok()) return failure(std::string(channel.status().message()));
  absl::Status status = channel->Send(MessageType::kUpgrade);
  absl::StatusOr<Message> answer = status.ok() ? channel->Expect(MessageType::kUpgraded, kPatience) : absl::StatusOr<Message>(status);
  if (!answer.ok()) return failure(std::string(answer.status().message()));
  std::cout << answer->body << std::endl;
  return kExitClean;
}

}  // namespace ringmain
