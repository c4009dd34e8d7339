#include "admin/admin_server.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "admin/http_server.h"
#include "base/unique_fd.h"
#include "sample.h"

namespace ringmain {
namespace {

UniqueFd Connect(const SocketAddress& address) {
  UniqueFd fd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  timeval limit{.tv_sec = 20, .tv_usec = 0};  // a hang fails the test
  EXPECT_EQ(setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
  EXPECT_EQ(connect(fd.get(), address.address(), address.length()), 0) << strerror(errno);
  return fd;
}

void SendAll(const UniqueFd& fd, std::string_view text) {
  while (!text.empty()) {
    ssize_t n = send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // the server may have answered and closed already
    text.remove_prefix(static_cast<size_t>(n));
  }
}

std::string ReceiveToEnd(const UniqueFd& fd) {
  std::string text;
  char buffer[4096];
  ssize_t n;
  while ((n = recv(fd.get(), buffer, sizeof(buffer), 0)) > 0) text.append(buffer, static_cast<size_t>(n));
  EXPECT_EQ(n, 0) << "did not end in order: " << strerror(errno);
  return text;
}

std::string Exchange(const SocketAddress& address, std::string_view request) {
  UniqueFd fd = Connect(address);
  SendAll(fd, request);
  return ReceiveToEnd(fd);
}

std::string Get(const SocketAddress& address, const std::string& path) {
  return Exchange(address, "GET " + path + " HTTP/1.1\r\nHost: " + address.ToString() + "\r\n\r\n");
}

bool HasLine(const std::string& response, const std::string& line) {
  return response.find("\r\n" + line + "\r\n") != std::string::npos;
}

std::unique_ptr<AdminServer> StartOrDie(Sample& sample) {
  auto server = sample.Start();
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

TEST(AdminServer, ServesWithTheRightHeaders) {
  Sample sample;
  auto server = StartOrDie(sample);
  EXPECT_NE(server->admin_address().port(), 0);
  EXPECT_FALSE(server->metrics_address().has_value());

  std::string metrics = Get(server->admin_address(), "/metrics?x=1");
  EXPECT_TRUE(metrics.starts_with("HTTP/1.1 200 OK\r\n")) << metrics;
  EXPECT_TRUE(HasLine(metrics, "Content-Type: text/plain; version=0.0.4; charset=utf-8")) << metrics;
  EXPECT_TRUE(HasLine(metrics, "Cache-Control: no-store"));
  EXPECT_TRUE(HasLine(metrics, "X-Content-Type-Options: nosniff"));
  EXPECT_NE(metrics.find("\nringmain_connections_total{listener=\"tunnel\"} 0\n"), std::string::npos);

  std::string head = Exchange(server->admin_address(), "HEAD /healthz HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(HasLine(head, "Content-Length: 3")) << head;
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
  EXPECT_TRUE(HasLine(Get(server->admin_address(), "/api/v1/status"), "Content-Type: application/json; charset=utf-8"));

  std::string put =
      Exchange(server->admin_address(), "PUT /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
  EXPECT_TRUE(put.starts_with("HTTP/1.1 405 ")) << put;
  EXPECT_TRUE(HasLine(put, "Allow: GET, HEAD"));
}

TEST(AdminServer, ServesNoFiles) {
  Sample sample;
  auto server = StartOrDie(sample);
  for (const char* path : {"/etc/passwd", "/metrics/", "/.htpasswd"})
    EXPECT_TRUE(Get(server->admin_address(), path).starts_with("HTTP/1.1 404 ")) << path;
  for (const char* path : {"/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"})
    EXPECT_TRUE(Get(server->admin_address(), path).starts_with("HTTP/1.1 400 ")) << path;
  EXPECT_TRUE(Exchange(server->admin_address(),
                       "OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n"
                       "Access-Control-Request-Method: POST\r\n\r\n")
                  .starts_with("HTTP/1.1 405 "));
}

TEST(AdminServer, PostIsGuarded) {
  Sample sample;
  auto server = StartOrDie(sample);
  auto post = [&](const std::string& host, const std::string& type) {
    return Exchange(server->admin_address(), "POST /api/v1/drain HTTP/1.1\r\nHost: " + host +
                                                 "\r\nContent-Type: " + type + "\r\nContent-Length: 2\r\n\r\n{}");
  };
  const std::string bound = server->admin_address().ToString();
  EXPECT_TRUE(post(bound, "application/json").starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(post("localhost" + bound.substr(bound.find(':')), "application/json").starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(post("evil.example", "application/json").starts_with("HTTP/1.1 403 "));
  EXPECT_TRUE(post(bound, "text/plain").starts_with("HTTP/1.1 403 "));
}

TEST(AdminServer, MetricsListenerIsApart) {
  Sample sample;
  sample.metrics = Address("0.0.0.0:0");
  auto server = StartOrDie(sample);
  ASSERT_TRUE(server->metrics_address().has_value());
  EXPECT_NE(server->metrics_address()->port(), server->admin_address().port());
  EXPECT_TRUE(Get(*server->metrics_address(), "/metrics").starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(Get(*server->metrics_address(), "/api/v1/status").starts_with("HTTP/1.1 404 "));
}

TEST(AdminServer, SurvivesGarbage) {
  Sample sample;
  auto server = StartOrDie(sample);
  const SocketAddress address = server->admin_address();
  EXPECT_TRUE(Exchange(address, "garbage\r\n\r\n").starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(Exchange(address, "GET /metrics HTTP/9.9\r\n\r\n").starts_with("HTTP/1.1 505 "));
  EXPECT_TRUE(Exchange(address, "POST /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n").starts_with("HTTP/1.1 400 "));
  std::string many_headers = "GET /metrics HTTP/1.1\r\n";
  for (int i = 0; i < 200; ++i) many_headers += "A: b\r\n";
  EXPECT_FALSE(Exchange(address, many_headers + "\r\n").empty());
  {
    UniqueFd fd = Connect(address);
    SendAll(fd, std::string(64 << 10, 'x'));  // no line end: too large
    char buffer[16];
    ssize_t n = recv(fd.get(), buffer, sizeof(buffer), 0);  // an answer or a reset, but an end
    EXPECT_TRUE(n >= 0 || errno == ECONNRESET) << strerror(errno);
  }
  { UniqueFd fd = Connect(address); }
  std::string binary;
  for (int i = 0; i < 256; ++i) binary += static_cast<char>(i);
  UniqueFd fd = Connect(address);
  SendAll(fd, binary + "\r\n\r\n");
  fd.reset();
  EXPECT_TRUE(Get(address, "/healthz").starts_with("HTTP/1.1 200 "));
}

TEST(AdminServer, IdleConnectionsDoNotHoldUpAScrape) {
  Sample sample;
  auto server = StartOrDie(sample);
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 8; ++i) idle.push_back(Connect(server->admin_address()));
  SendAll(idle[0], "GET /metr");
  EXPECT_TRUE(Get(server->admin_address(), "/metrics").starts_with("HTTP/1.1 200 "));
  // Not one of the idle ones was given up for it.
  for (const UniqueFd& fd : idle) {
    pollfd state{.fd = fd.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&state, 1, 0), 0);
  }
}

// More than there may be connections: each makes room for the next once it has had its grace.
TEST(AdminServer, DrippingConnectionsDoNotHoldUpAScrape) {
  Sample sample;
  auto server = StartOrDie(sample);
  std::vector<UniqueFd> slow;
  for (size_t i = 0; i < kHttpConnections + 40; ++i) {
    slow.push_back(Connect(server->admin_address()));
    SendAll(slow.back(), "GET /metr");
  }
  std::atomic<bool> stop{false};
  auto dripping = std::async(std::launch::async, [&] {
    while (!stop.load()) {
      for (const UniqueFd& fd : slow) SendAll(fd, "x");
      std::this_thread::sleep_for(milliseconds(10));
    }
  });
  TimePoint begin = Clock::now();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Get(server->admin_address(), "/metrics").starts_with("HTTP/1.1 200 "));
  EXPECT_LT(Clock::now() - begin, kReadLimit / 2);
  stop.store(true);
  dripping.get();
}

// However it comes, and with what after it: one request, one response.
TEST(AdminServer, ARequestMayComeInPieces) {
  Sample sample;
  auto server = StartOrDie(sample);
  const std::string bound = server->admin_address().ToString();
  const std::string request = "POST /api/v1/servers HTTP/1.1\r\nHost: " + bound +
                              "\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n[1,2]GET /metrics HTTP/1.1\r\n\r\n";
  const std::string whole = Exchange(server->admin_address(), request);
  EXPECT_TRUE(whole.starts_with("HTTP/1.1 400 ")) << whole;
  EXPECT_NE(whole.find("the body is no JSON object"), std::string::npos) << whole;
  EXPECT_EQ(whole.find("HTTP/1.1", 1), std::string::npos) << whole;
  for (size_t at = 1; at < request.find("GET"); at += 7) {
    UniqueFd fd = Connect(server->admin_address());
    SendAll(fd, std::string_view(request).substr(0, at));
    std::this_thread::sleep_for(milliseconds(1));
    SendAll(fd, std::string_view(request).substr(at));
    EXPECT_EQ(ReceiveToEnd(fd), whole) << at;
  }
}

TEST(AdminServer, AnswersExpectations) {
  Sample sample;
  auto server = StartOrDie(sample);
  UniqueFd fd = Connect(server->admin_address());
  SendAll(fd, "POST /api/v1/servers HTTP/1.1\r\nHost: " + server->admin_address().ToString() +
                  "\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  char buffer[256];
  ssize_t n = recv(fd.get(), buffer, sizeof(buffer), 0);
  EXPECT_EQ(std::string(buffer, static_cast<size_t>(std::max<ssize_t>(n, 0))), "HTTP/1.1 100 Continue\r\n\r\n");
  SendAll(fd, "[]");
  EXPECT_TRUE(ReceiveToEnd(fd).starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(Exchange(server->admin_address(), "POST / HTTP/1.0\r\nContent-Length: 70000\r\n\r\n").starts_with("HTTP/1.1 413 "));
}

TEST(AdminServer, ManyAtOnceAreAllServed) {
  Sample sample;
  auto server = StartOrDie(sample);
  std::vector<std::future<std::string>> responses;
  for (int i = 0; i < 50; ++i) {
    responses.push_back(std::async(std::launch::async, [&] { return Get(server->admin_address(), "/metrics"); }));
  }
  for (auto& response : responses) EXPECT_TRUE(response.get().starts_with("HTTP/1.1 200 "));
}

TEST(AdminServer, AnOccupiedPortIsNamed) {
  Sample first;
  auto server = StartOrDie(first);
  Sample second;
  second.admin = server->admin_address();
  auto refused = second.Start();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().message(), "admin: " + server->admin_address().ToString() +
                                            " is already in use; set admin.listen (or --admin) to a free address");

  second.admin = Address("127.0.0.1:0");
  second.metrics = server->admin_address();
  refused = second.Start();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().message(), "metrics: " + server->admin_address().ToString() +
                                            " is already in use; set metrics.listen to a free address");
}

TEST(AdminServer, AForeignAddressIsNamed) {
  Sample sample;
  sample.admin = Address("192.0.2.1:9900");  // TEST-NET-1 (RFC 5737)
  auto refused = sample.Start();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().message(),
            "admin: 192.0.2.1:9900 is not an address of this machine; set admin.listen (or --admin) to one that is");
}

TEST(AdminServer, Ipv6IsServed) {
  Sample sample;
  sample.admin = Address("[::1]:0");
  auto server = sample.Start();
  if (server.ok()) {
    EXPECT_TRUE(Get((*server)->admin_address(), "/healthz").starts_with("HTTP/1.1 200 "));
  } else {
    std::string message(server.status().message());
    EXPECT_TRUE(message.starts_with("admin: [::1]:0 ")) << message;
    EXPECT_TRUE(message.find("not an address") != std::string::npos || message.find("Address family") != std::string::npos)
        << message;  // of a machine without IPv6
  }
}

TEST(AdminServer, StopsAtOnceAndFreesThePort) {
  Sample sample;
  auto server = StartOrDie(sample);
  SocketAddress address = server->admin_address();
  auto begin = Clock::now();
  server.reset();
  EXPECT_LT(Clock::now() - begin, seconds(1));
  sample.admin = address;
  EXPECT_TRUE(sample.Start().ok());
}

}  // namespace
}  // namespace ringmain
