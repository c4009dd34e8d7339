// Lookup: one name looked up once, over c-ares. Whoever has one polls its files and calls Process.
#pragma once

#include <poll.h>

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "config/config.h"
#include "discovery/answer.h"

struct ares_channeldata;

namespace ringmain {

// Each has a channel of its own: so it has the system's settings as they are now, source ports that nobody can guess from earlier ones, and can be
// given up at any time. Thread-bound.
class Lookup {
 public:
  // Of SRV records so many hosts are looked up, those of the lowest priorities.
  static constexpr size_t kMaxHosts = 256;

  // Starts. It may have ended when this returns.
  Lookup(const DnsNameConfig& name, const DnsConfig& dns);
  // At any time.
  ~Lookup();
  Lookup(const Lookup&) = delete;
  Lookup& operator=(const Lookup&) = delete;

  bool ended() const { return asked_ == 0 && to_ask_.empty(); }
  // REQUIRES: ended().
  const Found& found() const { return found_; }

  // Adds what to wait for; it holds until the next Process.
  void AddFiles(std::vector<pollfd>& files) const;
  // Process is to be called then, though no file is ready; none: when one is.
  std::optional<Duration> TimeLeft() const;
  // `files` are those that AddFiles has added, polled since.
  void Process(std::span<const pollfd> files);

 private:
  struct Question;
  enum Record : size_t { kIpv4, kIpv6, kService };  // the first two are places in FoundHost

  bool Open(const DnsConfig& dns);
  void AskForHost(const std::string& host);
  bool FindInHostsFile(const std::string& host);
  void AskMore();
  void Answered(const Question& question, int status, std::span<const unsigned char> message);
  void TakeRecords(std::vector<SrvRecord> records);

  const DnsNameConfig name_;
  const bool system_;  // its resolvers and its hosts file
  ares_channeldata* channel_ = nullptr;
  std::map<int, short> files_;                            // events to poll for
  std::deque<std::pair<std::string, Record>> to_ask_;
  size_t asked_ = 0;                                      // questions without an answer yet
  bool heard_ = false;                                    // a resolver has answered something
  Found found_;
};

}  // namespace ringmain
