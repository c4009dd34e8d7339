#include "process/ask_ready.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "process/process.h"

namespace ringmain {
namespace {

// Up to the end of the status line: "HTTP/1.1 200 OK". Empty if it does not come; errno says why, or is 0.
std::string StatusLine(const SocketAddress& address) {
  UniqueFd fd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{2, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));  // of a connect as well: socket(7)
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  if (connect(fd.get(), address.address(), address.length()) != 0) return "";
  std::string request = absl::StrCat("GET /readyz HTTP/1.1\r\nHost: ", address.ToString(), "\r\nConnection: close\r\n\r\n");
  if (send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) return "";
  std::string answer;
  std::array<char, 512> piece;
  while (answer.size() < piece.size()) {
    ssize_t got = recv(fd.get(), piece.data(), piece.size(), 0);
    if (got == 0) errno = 0;
    if (got <= 0) return "";
    answer.append(piece.data(), static_cast<size_t>(got));
    if (size_t end = answer.find("\r\n"); end != std::string::npos) return answer.substr(0, end);
  }
  errno = 0;
  return "";
}

}  // namespace

int AskReady(const SocketAddress& address) {
  std::string line = StatusLine(address);
  std::string_view status = std::string_view(line).substr(0, 7) == "HTTP/1." ? std::string_view(line).substr(8) : "";
  if (status.substr(0, 5) == " 200 ") {
    std::cout << "ready" << std::endl;
    return kExitClean;
  }
  std::string why = status.substr(0, 5) == " 503 " ? "it runs, but is not ready: it starts or drains"
                    : !line.empty()                ? absl::StrCat("it answers: ", line)
                    : errno == EAGAIN || errno == EINPROGRESS ? "no answer within 2 s"
                    : errno != 0                              ? std::strerror(errno)
                                                              : "no answer of HTTP";
  std::cerr << "ringmain: health: " << address.ToString() << ": " << why << std::endl;
  return kExitFailure;
}

}  // namespace ringmain
