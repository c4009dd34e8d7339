#include "discovery/lookup.h"

// Later versions call the functions that version 1.18 has deprecated.
#define CARES_NO_DEPRECATED
#include <ares.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ringmain {
namespace {

// Questions under way at once: the resolver may be small, and so is the socket's buffer for its answers.
constexpr size_t kMaxAsked = 32;
constexpr std::array<int, 3> kTypes = {ns_t_a, ns_t_aaaa, ns_t_srv};  // by Lookup::Record

LookupResult ResultOf(int status) {
  switch (status) {
    case ARES_SUCCESS:
      return LookupResult::kSuccess;
    case ARES_ENODATA:
      return LookupResult::kNoRecords;
    case ARES_ENOTFOUND:
      return LookupResult::kNoName;
    case ARES_ESERVFAIL:
    case ARES_EREFUSED:
    case ARES_ENOTIMP:
    case ARES_EFORMERR:
      return LookupResult::kServerFailure;
    case ARES_ETIMEOUT:
      return LookupResult::kTimeout;
    case ARES_ECONNREFUSED:
      return LookupResult::kUnreachable;
    case ARES_EBADRESP:
      return LookupResult::kMalformed;
    default:
      return LookupResult::kOther;
  }
}

SocketAddress ToAddress(const in_addr& ip) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr = ip;
  return SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

SocketAddress ToAddress(const ares_in6_addr& ip) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  static_assert(sizeof(ip) == sizeof(address.sin6_addr));
  std::memcpy(&address.sin6_addr, &ip, sizeof(ip));
  return SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

template <typename Ip>
SocketAddress FromBytes(const char* bytes) {
  Ip ip;
  std::memcpy(&ip, bytes, sizeof(ip));
  return ToAddress(ip);
}

int Parse(const unsigned char* message, int length, ares_addrttl* into, int* count) {
  return ares_parse_a_reply(message, length, nullptr, into, count);
}
int Parse(const unsigned char* message, int length, ares_addr6ttl* into, int* count) {
  return ares_parse_aaaa_reply(message, length, nullptr, into, count);
}
SocketAddress ToAddress(const ares_addrttl& one) { return ToAddress(one.ipaddr); }
SocketAddress ToAddress(const ares_addr6ttl& one) { return ToAddress(one.ip6addr); }

template <typename Address>
FoundAddresses ParseAddresses(std::span<const unsigned char> message) {
  constexpr size_t kLeastRecord = 16;  // a compressed name, type, class, TTL, length, and 4 bytes
  std::vector<Address> parsed(message.size() / kLeastRecord + 1);
  int count = static_cast<int>(parsed.size());
  FoundAddresses found;
  found.result = ResultOf(Parse(message.data(), static_cast<int>(message.size()), parsed.data(), &count));
  if (found.result != LookupResult::kSuccess) return found;
  for (int i = 0; i < count; ++i) found.addresses.push_back(ToAddress(parsed[static_cast<size_t>(i)]));
  if (count == 0) found.result = LookupResult::kNoRecords;
  return found;
}

LookupResult ParseRecords(std::span<const unsigned char> message, std::vector<SrvRecord>& records) {
  ares_srv_reply* list = nullptr;
  int status = ares_parse_srv_reply(message.data(), static_cast<int>(message.size()), &list);
  for (const ares_srv_reply* one = list; one != nullptr; one = one->next) {
    std::string host = absl::AsciiStrToLower(one->host);
    if (host.ends_with('.')) host.pop_back();
    // RFC 2782: the root in place of a host says that there is no such service.
    if (!host.empty() && one->port != 0) records.push_back({std::move(host), one->port, one->priority, one->weight});
  }
  ares_free_data(list);
  return status == ARES_SUCCESS && records.empty() ? LookupResult::kNoRecords : ResultOf(status);
}

}  // namespace

struct Lookup::Question {
  Lookup* lookup;
  std::string host;
  Record record;
};

Lookup::Lookup(const DnsNameConfig& name, const DnsConfig& dns) : name_(name), system_(dns.resolvers.empty()) {
  if (!Open(dns)) {
    found_.srv_result = LookupResult::kOther;
    return;
  }
  if (name_.type == DnsType::kSrv)
    to_ask_.push_back({name_.host, kService});
  else
    AskForHost(name_.host);
  AskMore();
}

// Ends what is under way: each callback says ARES_EDESTRUCTION.
Lookup::~Lookup() {
  if (channel_ != nullptr) ares_destroy(channel_);
}

bool Lookup::Open(const DnsConfig& dns) {
  ares_options options{};
  int given = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
  options.timeout = static_cast<int>(dns.timeout.count());
  options.tries = static_cast<int>(dns.tries);
  options.sock_state_cb_data = this;
  options.sock_state_cb = [](void* self, ares_socket_t file, int readable, int writable) {
    auto events = static_cast<short>((readable != 0 ? POLLIN : 0) | (writable != 0 ? POLLOUT : 0));
    auto& files = static_cast<Lookup*>(self)->files_;
    if (events != 0)
      files[file] = events;
    else
      files.erase(file);
  };
  if (!system_) {  // nothing of the system's settings: neither its search domains nor its aliases
    given |= ARES_OPT_FLAGS;
    options.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES;
  }
#ifdef ARES_OPT_QUERY_CACHE
  given |= ARES_OPT_QUERY_CACHE;
  options.qcache_max_ttl = 0;
#endif
  if (ares_init_options(&channel_, &options, given) != ARES_SUCCESS) {
    channel_ = nullptr;
    return false;
  }
  if (system_) return true;
  std::string resolvers =
      absl::StrJoin(dns.resolvers, ",", [](std::string* out, const SocketAddress& one) { absl::StrAppend(out, one.ToString()); });
  return ares_set_servers_ports_csv(channel_, resolvers.c_str()) == ARES_SUCCESS;
}

// ---- Asking ----

void Lookup::AskForHost(const std::string& host) {
  found_.hosts[host];
  if (system_ && FindInHostsFile(host)) return;
  if (name_.type != DnsType::kAaaa) to_ask_.push_back({host, kIpv4});
  if (name_.type != DnsType::kA) to_ask_.push_back({host, kIpv6});
}

bool Lookup::FindInHostsFile(const std::string& host) {
  bool any = false;
  for (Record record : {kIpv4, kIpv6}) {
    if (name_.type == (record == kIpv4 ? DnsType::kAaaa : DnsType::kA)) continue;
    hostent* entry = nullptr;
    int family = record == kIpv4 ? AF_INET : AF_INET6;
    if (ares_gethostbyname_file(channel_, host.c_str(), family, &entry) != ARES_SUCCESS) continue;
    FoundAddresses& found = found_.hosts[host][record];
    for (char** one = entry->h_addr_list; entry->h_addrtype == family && *one != nullptr; ++one)
      found.addresses.push_back(family == AF_INET ? FromBytes<in_addr>(*one) : FromBytes<ares_in6_addr>(*one));
    ares_free_hostent(entry);
    if (found.addresses.empty()) continue;
    found.result = LookupResult::kSuccess;
    found_.ttl = seconds(0);  // the file may change at any time
    any = true;
  }
  return any;
}

void Lookup::AskMore() {
  while (asked_ < kMaxAsked && !to_ask_.empty()) {
    auto [host, record] = std::move(to_ask_.front());
    to_ask_.pop_front();
    ++asked_;
    // The callback may come before this returns.
    ares_search(
        channel_, host.c_str(), ns_c_in, kTypes[record],
        [](void* argument, int status, int, unsigned char* message, int length) {
          std::unique_ptr<Question> question(static_cast<Question*>(argument));
          if (status == ARES_EDESTRUCTION) return;
          question->lookup->Answered(*question, status, {message, static_cast<size_t>(std::max(length, 0))});
        },
        new Question{this, host, record});
  }
}

void Lookup::Answered(const Question& question, int status, std::span<const unsigned char> message) {
  --asked_;
  FoundAddresses found{ResultOf(status), {}};
  // So c-ares 1.18 calls it, too, when every resolver has refused or failed.
  if (status == ARES_ECONNREFUSED && heard_) found.result = LookupResult::kServerFailure;
  std::vector<SrvRecord> records;
  if (found.result == LookupResult::kSuccess) {
    if (question.record == kIpv4)
      found = ParseAddresses<ares_addrttl>(message);
    else if (question.record == kIpv6)
      found = ParseAddresses<ares_addr6ttl>(message);
    else
      found.result = ParseRecords(message, records);
  }
  if (found.result == LookupResult::kSuccess) found_.ttl = std::min(found_.ttl, LeastTtl(message));
  if (question.record != kService) {
    found_.hosts[question.host][question.record] = std::move(found);
    return;
  }
  found_.srv_result = found.result;
  if (found.result == LookupResult::kSuccess) TakeRecords(std::move(records));
}

void Lookup::TakeRecords(std::vector<SrvRecord> records) {
  std::sort(records.begin(), records.end(), [](const SrvRecord& a, const SrvRecord& b) {
    return std::tie(a.priority, a.host, a.port, a.weight) < std::tie(b.priority, b.host, b.port, b.weight);
  });
  for (SrvRecord& record : records) {
    if (!found_.hosts.contains(record.host)) {
      if (found_.hosts.size() == kMaxHosts) break;
      AskForHost(record.host);
    }
    found_.records.push_back(std::move(record));
  }
}

// ---- Waiting ----

void Lookup::AddFiles(std::vector<pollfd>& files) const {
  for (auto [file, events] : files_) files.push_back({file, events, 0});
}

std::optional<Duration> Lookup::TimeLeft() const {
  timeval time;
  if (channel_ == nullptr || ares_timeout(channel_, nullptr, &time) == nullptr) return std::nullopt;
  return seconds(time.tv_sec) + microseconds(time.tv_usec);
}

void Lookup::Process(std::span<const pollfd> files) {
  for (const pollfd& file : files) {
    bool failed = (file.revents & (POLLERR | POLLHUP)) != 0;
    heard_ = heard_ || (file.revents & (POLLIN | POLLERR | POLLHUP)) == POLLIN;
    bool read = (file.revents & POLLIN) != 0 || (failed && (file.events & POLLIN) != 0);
    bool write = (file.revents & POLLOUT) != 0 || (failed && (file.events & POLLOUT) != 0);
    if (read || write) ares_process_fd(channel_, read ? file.fd : ARES_SOCKET_BAD, write ? file.fd : ARES_SOCKET_BAD);
  }
  ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);  // timeouts
  AskMore();
}

}  // namespace ringmain
