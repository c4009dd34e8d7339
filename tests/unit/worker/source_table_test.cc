#include "worker/source_table.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "worker/access.h"

namespace ringmain {
namespace {

using Verdict = SourceTable::Verdict;
constexpr SourceTable::Secret kSecret{0x0123456789abcdef, 0xfedcba9876543210};
constexpr uint32_t kNone = SourceTable::kNone;

TimePoint At(Duration time) { return TimePoint(std::chrono::hours(1) + time); }

SocketAddress V4(uint32_t number) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(number);
  return SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

SocketAddress Host(const char* text) { return SocketAddress::ParseHost(text).value(); }

Verdict Admit(SourceTable& table, const SocketAddress& address, Duration time = {}) {
  uint32_t entry;
  return table.Admit(address, At(time), entry);
}

// Lets in as many of `tries` as may come.
std::vector<uint32_t> AdmitMany(SourceTable& table, const SocketAddress& address, int tries, Duration time = {}) {
  std::vector<uint32_t> entries;
  for (int i = 0; i < tries; ++i)
    if (uint32_t entry; table.Admit(address, At(time), entry) == Verdict::kAdmitted) entries.push_back(entry);
  return entries;
}

TEST(SourceTable, CountsEachSource) {
  SourceTable table(1000, kSecret);
  table.SetLimits({.max_connections = 3}, At({}));
  std::vector<uint32_t> one = AdmitMany(table, Host("10.0.0.1"), 10);
  EXPECT_EQ(one.size(), 3u);
  EXPECT_EQ(Admit(table, Host("10.0.0.1")), Verdict::kTooMany);
  EXPECT_EQ(AdmitMany(table, Host("10.0.0.2"), 10).size(), 3u);
  EXPECT_EQ(table.sources(), 2u);
  table.Release(one[0]);
  EXPECT_EQ(AdmitMany(table, Host("10.0.0.1"), 10).size(), 1u);
  for (int i = 0; i < 3; ++i) table.Release(one[0]);
  EXPECT_EQ(table.sources(), 1u);
  EXPECT_EQ(AdmitMany(table, Host("10.0.0.1"), 10).size(), 3u);
}

TEST(SourceTable, OneThatIsThereCountsThoughItIsTooMany) {
  SourceTable table(1000, kSecret);
  table.SetLimits({.max_connections = 2}, At({}));
  std::vector<uint32_t> entries;
  for (int i = 0; i < 5; ++i) entries.push_back(table.Count(Host("10.0.0.1"), At({})));
  for (int left = 5; left >= 2; --left) {
    EXPECT_EQ(Admit(table, Host("10.0.0.1")), Verdict::kTooMany) << left;
    table.Release(entries[static_cast<size_t>(left - 1)]);
  }
  EXPECT_EQ(Admit(table, Host("10.0.0.1")), Verdict::kAdmitted);
}

TEST(SourceTable, LimitsChangeInPlace) {
  SourceTable table(1000, kSecret);
  std::vector<uint32_t> entries = AdmitMany(table, V4(1), 10);
  EXPECT_EQ(entries.size(), 10u) << "no limit yet";
  table.SetLimits({.max_connections = 4}, At({}));
  for (int left = 10; left > 4; --left) {
    EXPECT_EQ(Admit(table, V4(1)), Verdict::kTooMany);
    table.Release(entries[0]);
  }
  table.Release(entries[0]);
  EXPECT_EQ(AdmitMany(table, V4(1), 10).size(), 1u);
  table.SetLimits({.max_connections = 5}, At({}));
  EXPECT_EQ(AdmitMany(table, V4(1), 10).size(), 1u);
}

TEST(SourceTable, IPv6CountsByPrefix) {
  SourceTable table(1000, kSecret);
  table.SetLimits({.max_connections = 1, .ipv6_prefix = 64}, At({}));
  EXPECT_EQ(Admit(table, Host("2001:db8::1")), Verdict::kAdmitted);
  EXPECT_EQ(Admit(table, Host("2001:db8::ffff:2")), Verdict::kTooMany);
  EXPECT_EQ(Admit(table, Host("2001:db8:0:1::1")), Verdict::kAdmitted);
  EXPECT_EQ(Admit(table, Host("::1")), Verdict::kAdmitted);
  EXPECT_EQ(Admit(table, Host("::2")), Verdict::kTooMany);
  table.SetLimits({.max_connections = 1, .ipv6_prefix = 128}, At({}));
  EXPECT_EQ(Admit(table, Host("2001:db8::1")), Verdict::kAdmitted) << "the prefix is another";
  EXPECT_EQ(Admit(table, Host("2001:db8::1")), Verdict::kTooMany);
  EXPECT_EQ(Admit(table, Host("2001:db8::3")), Verdict::kAdmitted);
  table.SetLimits({.max_connections = 1, .ipv6_prefix = 20}, At({}));
  EXPECT_EQ(Admit(table, Host("3001:f00::1")), Verdict::kAdmitted);
  EXPECT_EQ(Admit(table, Host("3001:fff:1::1")), Verdict::kTooMany);
  EXPECT_EQ(Admit(table, Host("3001:1f00::1")), Verdict::kAdmitted);
}

TEST(SourceTable, AnIPv4AddressIsTheSameInIPv6) {
  SourceTable table(1000, kSecret);
  table.SetLimits({.max_connections = 1, .ipv6_prefix = 1}, At({}));
  EXPECT_EQ(Admit(table, Host("192.0.2.1")), Verdict::kAdmitted);
  EXPECT_EQ(Admit(table, Host("::ffff:192.0.2.1")), Verdict::kTooMany);
  EXPECT_EQ(Admit(table, Host("::ffff:192.0.2.2")), Verdict::kAdmitted) << "ipv6_prefix is not of IPv4";
}

TEST(SourceTable, WhatIsNoIPAddressIsNotLimited) {
  SourceTable table(1000, kSecret);
  table.SetLimits({.max_connections = 1}, At({}));
  std::vector<uint32_t> entries = AdmitMany(table, SocketAddress::Parse("unix:/x").value(), 5);
  EXPECT_EQ(entries, std::vector<uint32_t>(5, kNone));
  EXPECT_EQ(table.Count(SocketAddress::Parse("unix:/x").value(), At({})), kNone);
}

TEST(SourceTable, HasAPaceForEachSource) {
  SourceTable table(1000, kSecret);
  table.SetLimits({.pace = Pace::Of(60 * 10, 5)}, At({}));
  EXPECT_EQ(AdmitMany(table, V4(1), 20).size(), 5u);
  EXPECT_EQ(Admit(table, V4(1)), Verdict::kTooFast);
  EXPECT_EQ(AdmitMany(table, V4(2), 20).size(), 5u);
  EXPECT_EQ(Admit(table, V4(1), milliseconds(99)), Verdict::kTooFast);
  EXPECT_EQ(AdmitMany(table, V4(1), 20, milliseconds(100)).size(), 1u);
  table.SetLimits({.pace = Pace::Of(60 * 100, 50)}, At(milliseconds(100)));
  EXPECT_EQ(AdmitMany(table, V4(1), 100, milliseconds(100)).size(), 45u) << "five are owed still";
  table.SetLimits({}, At(milliseconds(100)));
  EXPECT_EQ(AdmitMany(table, V4(1), 100, milliseconds(100)).size(), 100u);
}

TEST(SourceTable, TooManyTakeNothingFromThePace) {
  SourceTable table(1000, kSecret);
  table.SetLimits({.max_connections = 1, .pace = Pace::Of(60, 2)}, At({}));
  std::vector<uint32_t> entries = AdmitMany(table, V4(1), 20);
  ASSERT_EQ(entries.size(), 1u);
  table.Release(entries[0]);
  EXPECT_EQ(Admit(table, V4(1)), Verdict::kAdmitted);
}

TEST(SourceTable, WhatIsTakenBackIsAsIfItNeverCame) {
  SourceTable table(1000, kSecret);
  table.SetLimits({.max_connections = 2, .pace = Pace::Of(60, 2)}, At({}));
  for (int i = 0; i < 100; ++i) {
    uint32_t entry;
    ASSERT_EQ(table.Admit(V4(1), At({}), entry), Verdict::kAdmitted);
    table.TakeBack(entry);
  }
  EXPECT_EQ(table.sources(), 0u);
  EXPECT_EQ(AdmitMany(table, V4(1), 20).size(), 2u);
}

TEST(SourceTable, MemoryIsChosenAtTheStart) {
  EXPECT_EQ(SourceTable(1).entries(), 4096u);
  EXPECT_EQ(SourceTable(2049).entries(), 8192u);
  EXPECT_EQ(SourceTable(10'000).entries(), 32'768u);
  EXPECT_EQ(SourceTable(10'000'000).entries(), SourceTable::kMostEntries);
}

// A million addresses come and go; of those that stay not one loses its count, and the longest unused is forgotten first.
TEST(SourceTable, AMillionSourcesLeaveTheCountsOfOthersExact) {
  SourceTable table(2000, kSecret);
  table.SetLimits({.max_connections = 100, .pace = Pace::Of(60, 100)}, At({}));
  size_t entries = table.entries();
  std::vector<std::vector<uint32_t>> living;
  for (uint32_t source = 1; source <= 1000; ++source) {
    living.push_back(AdmitMany(table, V4(source), 60));
    ASSERT_EQ(living.back().size(), 60u);
  }
  uint64_t admitted = 0;
  for (uint32_t i = 0; i < 1'000'000; ++i) {
    uint32_t entry;
    if (table.Admit(V4(0x20000000 + i * 7919), At(microseconds(i)), entry) != Verdict::kAdmitted) continue;
    ++admitted;
    table.Release(entry);
  }
  EXPECT_EQ(table.entries(), entries);
  EXPECT_EQ(admitted, 1'000'000u) << "strangers are let in as long as they do not stay";
  EXPECT_EQ(table.sources(), 1000u);
  for (uint32_t source = 1; source <= 1000; ++source) {
    uint32_t i = source - 1;
    EXPECT_EQ(AdmitMany(table, V4(source), 200, seconds(1)).size(), 40u) << source;
    table.Release(living[i][0]);
  }
  EXPECT_EQ(table.no_entry(), 0u);
}

TEST(SourceTable, TheLongestUnusedIsForgottenFirst) {
  SourceTable table(1, kSecret);
  table.SetLimits({.pace = Pace::Of(1, 1)}, At({}));
  uint32_t often;
  ASSERT_EQ(table.Admit(V4(1), At({}), often), Verdict::kAdmitted);
  table.Release(often);
  uint32_t forgotten = 0;
  for (uint32_t i = 0; i < 40'000; ++i) {  // ten times the entries
    auto now = milliseconds(i);
    if (i % 200 == 0) {
      EXPECT_EQ(Admit(table, V4(1), now), Verdict::kTooFast) << "it is in use, and remembered";
    }
    uint32_t entry;
    if (table.Admit(V4(0x10000 + i), At(now), entry) == Verdict::kAdmitted) table.Release(entry);
  }
  for (uint32_t i = 0; i < 4000; ++i) {
    uint32_t entry;
    if (table.Admit(V4(0x10000 + i), At(seconds(41)), entry) != Verdict::kAdmitted) continue;
    ++forgotten;
    table.Release(entry);
  }
  EXPECT_EQ(forgotten, 4000u) << "those that came first";
}

// As many sources as there may be connections, each with one: all find a place.
TEST(SourceTable, HasAPlaceForEveryConnectionThatThereMayBe) {
  for (uint32_t connections : {2048u, 16'384u, 131'072u}) {
    SourceTable table(connections);  // any secret
    ASSERT_EQ(table.entries(), 2 * connections);
    for (uint32_t i = 0; i < connections; ++i) EXPECT_EQ(Admit(table, V4(0x0a000000 + i)), Verdict::kAdmitted);
    EXPECT_EQ(table.sources(), connections);
    EXPECT_EQ(table.no_entry(), 0u);
  }
}

TEST(SourceTable, WithoutAPlaceTheNewestAreRefused) {
  SourceTable table(1, kSecret);
  table.SetLimits({.max_connections = 2}, At({}));
  std::vector<std::pair<uint32_t, uint32_t>> there;  // source, entry
  for (uint32_t source = 1; source <= 20'000; ++source) {
    uint32_t entry;
    Verdict verdict = table.Admit(V4(source), At({}), entry);
    if (verdict == Verdict::kAdmitted)
      there.emplace_back(source, entry);
    else
      EXPECT_EQ(verdict, Verdict::kNoEntry);
  }
  EXPECT_GT(there.size(), table.entries() * 9 / 10);
  EXPECT_LE(there.size(), table.entries());
  EXPECT_EQ(table.no_entry(), 20'000 - there.size());
  EXPECT_EQ(table.sources(), there.size());
  EXPECT_EQ(table.Count(V4(0x55555555), At({})), kNone) << "one that is there is not counted then";
  for (auto [source, entry] : there) {
    EXPECT_EQ(AdmitMany(table, V4(source), 5), std::vector<uint32_t>{entry});
    table.Release(entry);
    table.Release(entry);
  }
  EXPECT_EQ(table.sources(), 0u);
  EXPECT_EQ(Admit(table, V4(0x55555555)), Verdict::kAdmitted);
}

TEST(SourceTable, PlacesFollowFromTheSecret) {
  SourceTable one(2000, {1, 2}), same(2000, {1, 2}), other(2000, {1, 3});
  uint32_t differ = 0;
  for (uint32_t i = 0; i < 100; ++i) {
    uint32_t a, b, c;
    one.Admit(V4(i), At({}), a), same.Admit(V4(i), At({}), b), other.Admit(V4(i), At({}), c);
    EXPECT_EQ(a, b);
    differ += a != c;
  }
  EXPECT_GT(differ, 95u);
}

TEST(SourceTable, ThePaceOfSourcesGoesOnElsewhere) {
  SourceTable table(1000), next(5000);
  table.SetLimits({.pace = Pace::Of(60, 10)}, At({}));
  for (uint32_t source = 1; source <= 100; ++source) AdmitMany(table, V4(source), static_cast<int>(source % 10));
  std::string saved = table.SavePace(At({}), 1000);
  EXPECT_EQ(saved.size(), 90 * 24u);
  EXPECT_EQ(table.SavePace(At({}), 50).size(), 50 * 24u);
  EXPECT_EQ(table.SavePace(At(seconds(10)), 1000).size(), 0u);
  next.SetLimits({.pace = Pace::Of(60, 10)}, At(seconds(2)));
  next.RestorePace(saved, Pace::Of(60, 10), At(seconds(2)));
  EXPECT_EQ(next.sources(), 0u);
  for (uint32_t source = 1; source <= 100; ++source)
    EXPECT_EQ(AdmitMany(next, V4(source), 20, seconds(2)).size(), std::min<size_t>(12 - source % 10, 10)) << source;
  SourceTable odd(1000);
  odd.SetLimits({.pace = Pace::Of(60, 10)}, At({}));
  odd.RestorePace(std::string(1000, '\x7f'), Pace::Of(60, 10), At({}));
  odd.RestorePace(saved, Pace(), At({}));
  EXPECT_EQ(AdmitMany(odd, V4(1), 20).size(), 10u);
}

// Threads open and close connections of a few sources, more than may come, while limits change.
TEST(SourceTable, NeverMoreThanTheLimitOverThreads) {
  constexpr uint32_t kSources = 3, kLimit = 3;
  SourceTable table(1000);
  table.SetLimits({.max_connections = kLimit}, At({}));
  std::array<std::atomic<uint32_t>, kSources> open{};
  std::atomic<bool> exceeded{false}, reached{false}, over{false};
  auto hammer = [&](uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<std::pair<uint32_t, uint32_t>> mine;
    for (int i = 0; i < 20'000; ++i) {
      uint32_t source = random() % kSources, entry;
      if (random() % 2 == 0 && mine.size() < 8) {
        if (table.Admit(V4(source), At(microseconds(i)), entry) == Verdict::kAdmitted) {
          if (++open[source] > kLimit) exceeded = true;
          mine.emplace_back(source, entry);
        } else {
          reached = true;
        }
      } else if (!mine.empty()) {
        auto [source_left, entry_left] = mine.back();
        mine.pop_back();
        --open[source_left];  // before it may be given to another
        table.Release(entry_left);
      }
      // Passers-by recycle entries around them.
      if (table.Admit(V4(0x1000000 + seed * 1'000'000 + static_cast<uint32_t>(i)), At(microseconds(i)), entry) == Verdict::kAdmitted)
        table.Release(entry);
    }
    for (auto [source, entry] : mine) --open[source], table.Release(entry);
  };
  std::vector<std::thread> threads;
  for (uint32_t i = 1; i <= 4; ++i) threads.emplace_back(hammer, i);
  std::thread operators([&] {
    for (uint32_t i = 1; !over; ++i)
      table.SetLimits({.max_connections = kLimit, .pace = i % 2 == 0 ? Pace() : Pace::Of(60'000'000, 1'000'000)}, At({}));
  });
  for (std::thread& thread : threads) thread.join();
  over = true;
  operators.join();
  EXPECT_FALSE(exceeded);
  EXPECT_TRUE(reached);
  EXPECT_EQ(table.sources(), 0u);
  EXPECT_EQ(AdmitMany(table, V4(1), 100).size(), kLimit);
}

TEST(AccessRules, TheFirstThatFitsDecides) {
  auto rule = [](bool allow, const char* network) { return AccessRule{allow, Network::Parse(network).value()}; };
  AccessRules rules{rule(false, "10.1.0.0/16"), rule(true, "10.0.0.0/8"), rule(false, "10.2.0.0/16"), rule(true, "2001:db8::/32"),
                    rule(false, "all")};
  EXPECT_FALSE(Allowed(rules, Host("10.1.2.3")));
  EXPECT_TRUE(Allowed(rules, Host("10.2.0.1"))) << "the rule above it decides";
  EXPECT_TRUE(Allowed(rules, Host("::ffff:10.2.0.1")));
  EXPECT_TRUE(Allowed(rules, Host("2001:db8::1")));
  EXPECT_FALSE(Allowed(rules, Host("2001:db9::1")));
  EXPECT_FALSE(Allowed(rules, SocketAddress::Parse("unix:/x").value()));
  rules.pop_back();
  EXPECT_TRUE(Allowed(rules, Host("192.0.2.1"))) << "none fits";
  EXPECT_TRUE(Allowed(rules, SocketAddress::Parse("unix:/x").value()));
  EXPECT_TRUE(Allowed({}, Host("192.0.2.1")));
}

}  // namespace
}  // namespace ringmain
