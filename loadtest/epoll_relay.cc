// epoll-relay: the least a TCP proxy can do, as the floor that others are compared with (loadtest/compare).
//
//   epoll-relay LISTEN TO [LISTEN TO]...
//
// One thread, one level-triggered epoll, one buffer that every copy goes through and that stays in cache. A byte is
// read once and written once; what a slow receiver does not take is kept, and its sender is not read until it is gone.
// The end of one direction is passed on as such. There are no timeouts, limits, counters or messages, and an error
// closes both sides. A pair more makes the same thread listen on one more address.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <string>
#include <vector>

#include "base/socket_address.h"
#include "loadtest/listening_socket.h"

namespace ringmain::loadtest {
namespace {

constexpr size_t kBufferBytes = 64 << 10;
constexpr int kBatch = 256;         // events of one turn
constexpr int kAcceptsAtOnce = 64;  // of one turn and listening socket

// One of the two sockets of a session; or a listening socket, which has no other side.
struct Side {
  int fd = -1;
  Side* other = nullptr;
  uint32_t events = 0;    // what epoll watches; 0 is nothing
  bool connected = true;  // false until the upstream connect has succeeded
  bool ended = false;     // the end of the stream was read
  bool shut = false;      // the end of the other's stream was passed on to this one
  bool closed = false;    // waits in g_closed, for later events of the same turn may name it
  std::string unsent;     // read from `other`, not yet taken by this one
};

struct ListeningSide : Side {
  SocketAddress to;  // where its sessions go
};

int g_epoll = -1;
std::vector<Side*> g_closed;
char g_buffer[kBufferBytes];

void Watch(Side& side, uint32_t events) {
  if (side.events == events) return;
  epoll_event event{.events = events, .data = {.ptr = &side}};
  epoll_ctl(g_epoll, side.events == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, side.fd, &event);
  side.events = events;
}

void Close(Side& side) {
  if (side.closed) return;
  for (Side* one : {&side, side.other}) {
    close(one->fd);
    one->closed = true;
    g_closed.push_back(one);
  }
}

// Reads while its bytes have somewhere to go, writes while something waits. With neither it is watched for errors only.
void Rearm(Side& side) {
  uint32_t events = EPOLLERR;  // reported anyway, but makes the mask differ from "not watched"
  if (!side.ended && side.connected && side.other->connected && side.other->unsent.empty()) events |= EPOLLIN;
  if (!side.connected || !side.unsent.empty()) events |= EPOLLOUT;
  Watch(side, events);
}

// Passes the end of one stream on once its last byte is; false if that closed the session.
bool PassEnd(Side& from) {
  Side& to = *from.other;
  if (from.ended && to.unsent.empty() && !to.shut) {
    shutdown(to.fd, SHUT_WR);
    to.shut = true;
  }
  if (!to.shut || !from.shut) return true;
  Close(from);
  return false;
}

// Bytes written; -1 on an error other than a full socket.
ssize_t Write(int fd, const char* data, size_t size) {
  ssize_t written = send(fd, data, size, MSG_NOSIGNAL);
  return written < 0 && errno == EAGAIN ? 0 : written;
}

void Readable(Side& from) {
  Side& to = *from.other;
  ssize_t size = recv(from.fd, g_buffer, sizeof(g_buffer), 0);
  if (size < 0) return errno == EAGAIN ? void() : Close(from);
  if (size == 0) {
    from.ended = true;
    if (PassEnd(from)) Rearm(from);
    return;
  }
  ssize_t written = Write(to.fd, g_buffer, size);
  if (written < 0) return Close(from);
  if (written == size) return;
  to.unsent.assign(g_buffer + written, size - written);
  Rearm(from);
  Rearm(to);
}

void Writable(Side& to) {
  if (!to.connected) {
    int error = 0;
    socklen_t length = sizeof(error);
    getsockopt(to.fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) return Close(to);
    to.connected = true;
  } else {
    ssize_t written = Write(to.fd, to.unsent.data(), to.unsent.size());
    if (written < 0) return Close(to);
    to.unsent.erase(0, written);
    if (!to.unsent.empty()) return;
    std::string().swap(to.unsent);
    if (!PassEnd(*to.other)) return;
  }
  Rearm(to);
  Rearm(*to.other);
}

void Accept(ListeningSide& listener) {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    int client = accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0) return;
    int server = socket(listener.to.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // the client's is inherited
    int result = server < 0 ? -1 : connect(server, listener.to.address(), listener.to.length());
    if (server < 0 || (result != 0 && errno != EINPROGRESS)) {
      if (server >= 0) close(server);
      close(client);
      continue;
    }
    Side* sides[] = {new Side{.fd = client}, new Side{.fd = server, .connected = result == 0}};
    for (int s : {0, 1}) sides[s]->other = sides[1 - s];
    Rearm(*sides[1]);  // the client is not watched before there is somewhere to send what it says
    if (sides[1]->connected) Rearm(*sides[0]);
  }
}

void Handle(Side& side, uint32_t events) {
  if (side.closed) return;
  if (side.other == nullptr) return Accept(static_cast<ListeningSide&>(side));
  if (events & EPOLLERR && side.connected && !(side.events & EPOLLIN)) return Close(side);
  if (events & EPOLLOUT || !side.connected) Writable(side);
  if (side.closed) return;
  if (events & (EPOLLIN | EPOLLERR | EPOLLHUP) && side.events & EPOLLIN) return Readable(side);
  if (events & EPOLLHUP && side.ended && side.unsent.empty()) Watch(side, 0);  // both its streams have ended
}

int Main(int argc, char** argv) {
  if (argc < 3 || argc % 2 == 0) return std::fprintf(stderr, "usage: epoll-relay LISTEN TO [LISTEN TO]...\n"), 2;
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  signal(SIGPIPE, SIG_IGN);
  g_epoll = epoll_create1(EPOLL_CLOEXEC);
  std::deque<ListeningSide> listeners;  // a deque keeps their addresses
  for (int i = 1; i + 1 < argc; i += 2) {
    absl::StatusOr<SocketAddress> address = SocketAddress::Parse(argv[i]);
    absl::StatusOr<SocketAddress> to = SocketAddress::Parse(argv[i + 1]);
    if (!address.ok() || !to.ok()) return std::fprintf(stderr, "epoll-relay: an address is not right\n"), 2;
    absl::StatusOr<Listener> listener = Listen(*address, 1);
    if (!listener.ok()) return std::fprintf(stderr, "%s\n", std::string(listener.status().message()).c_str()), 1;
    ListeningSide& side = listeners.emplace_back();
    side.fd = listener->sockets[0].release();
    side.to = *to;
    fcntl(side.fd, F_SETFL, O_NONBLOCK);
    std::printf("listening address=%s\n", listener->address.ToString().c_str());
    Watch(side, EPOLLIN);
  }
  std::fflush(stdout);
  for (epoll_event events[kBatch];;) {
    int count = epoll_wait(g_epoll, events, kBatch, -1);
    for (int i = 0; i < count; ++i) Handle(*static_cast<Side*>(events[i].data.ptr), events[i].events);
    for (Side* side : g_closed) delete side;
    g_closed.clear();
  }
}

}  // namespace
}  // namespace ringmain::loadtest

int main(int argc, char** argv) { return ringmain::loadtest::Main(argc, argv); }
