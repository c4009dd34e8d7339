#include "discovery/answer.h"

#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "config/dns_name.h"

namespace ringmain {
namespace {

using enum LookupResult;

SocketAddress Host(const std::string& text) { return SocketAddress::ParseHost(text).value(); }

FoundAddresses Some(std::vector<std::string> hosts) {
  FoundAddresses found{kSuccess, {}};
  for (const std::string& host : hosts) found.addresses.push_back(Host(host));
  return found;
}
FoundAddresses Failed(LookupResult result) { return {result, {}}; }

Found FoundOne(FoundAddresses ipv4, FoundAddresses ipv6 = {}) {
  Found found;
  found.hosts["db"] = {std::move(ipv4), std::move(ipv6)};
  return found;
}

DnsNameConfig Name(const std::string& text, DnsType type = DnsType::kAny) { return ParseDnsName(text, type).value(); }

// As `address weight`, and `backup`.
std::vector<std::string> Servers(const DnsNameConfig& name, const Good& good) {
  std::vector<std::string> list;
  for (const FoundServer& server : ServersOf(name, good))
    list.push_back(absl::StrCat(server.address.ToString(), " ", server.weight, server.backup ? " backup" : ""));
  return list;
}
std::vector<std::string> Servers(const Good& good) { return Servers(Name("db:5"), good); }

using Texts = std::vector<std::string>;

// ---- What holds ----

TEST(Merge, OrderAndDoublesDoNotMatter) {
  Good good;
  EXPECT_EQ(Merge(FoundOne(Some({"10.0.0.10", "10.0.0.9", "10.0.0.10"}), Some({"2001:db8::2", "2001:db8::1"})), good), kSuccess);
  Texts expected = {"10.0.0.9:5 0", "10.0.0.10:5 0", "[2001:db8::1]:5 0", "[2001:db8::2]:5 0"};
  EXPECT_EQ(Servers(good), expected);
  EXPECT_EQ(Merge(FoundOne(Some({"10.0.0.9", "10.0.0.10"}), Some({"2001:db8::1", "2001:db8::2"})), good), kSuccess);
  EXPECT_EQ(Servers(good), expected);
}

TEST(Merge, AFailureTakesNothingAway) {
  Good good;
  EXPECT_EQ(Merge(FoundOne(Failed(kTimeout), Failed(kTimeout)), good), kTimeout);
  EXPECT_TRUE(Servers(good).empty());
  ASSERT_EQ(Merge(FoundOne(Some({"10.0.0.1"}), Some({"2001:db8::1"})), good), kSuccess);
  Texts both = Servers(good);
  EXPECT_EQ(both.size(), 2u);
  for (LookupResult result : {kNoName, kNoRecords, kServerFailure, kTimeout, kUnreachable, kMalformed, kOther}) {
    EXPECT_EQ(Merge(FoundOne(Failed(result), Failed(result)), good), result);
    EXPECT_EQ(Servers(good), both);
  }
  EXPECT_EQ(Merge(FoundOne(Failed(kNoRecords), Failed(kTimeout)), good), kTimeout);
  EXPECT_EQ(Merge(FoundOne(Failed(kTimeout), Failed(kNoName)), good), kNoName);
  EXPECT_EQ(Servers(good), both);
}

TEST(Merge, OneTypeMayFailAlone) {
  Good good;
  ASSERT_EQ(Merge(FoundOne(Some({"10.0.0.1"}), Some({"2001:db8::1"})), good), kSuccess);
  EXPECT_EQ(Merge(FoundOne(Some({"10.0.0.2"}), Failed(kTimeout)), good), kSuccess);
  EXPECT_EQ(Servers(good), (Texts{"10.0.0.2:5 0", "[2001:db8::1]:5 0"})) << "what is not known stays";
  EXPECT_EQ(Merge(FoundOne(Some({"10.0.0.2"}), Failed(kNoRecords)), good), kSuccess);
  EXPECT_EQ(Servers(good), Texts{"10.0.0.2:5 0"}) << "there are none";
  ASSERT_EQ(Merge(FoundOne(Some({"10.0.0.2"}), Some({"2001:db8::1"})), good), kSuccess);
  EXPECT_EQ(Merge(FoundOne(Failed(kNoName), Some({"2001:db8::1"})), good), kSuccess);
  EXPECT_EQ(Servers(good), Texts{"[2001:db8::1]:5 0"}) << "a resolver that mixes up the name and the type";
}

TEST(Servers, WhatNobodyCanConnectToIsLeftOut) {
  Good good;
  ASSERT_EQ(Merge(FoundOne(Some({"0.0.0.0", "127.0.0.1"}), Some({"::", "fe80::1", "::1"})), good), kSuccess);
  EXPECT_EQ(Servers(good), (Texts{"127.0.0.1:5 0", "[::1]:5 0"}));
}

// ---- SRV ----

Found FoundRecords(std::vector<SrvRecord> records) {
  Found found;
  found.records = std::move(records);
  return found;
}

TEST(Srv, LowestPriorityServesAndWeightsAreScaled) {
  Found found = FoundRecords({{"a", 1, 10, 65535}, {"b", 2, 10, 32768}, {"c", 3, 10, 0}, {"d", 4, 20, 7}, {"e", 5, 30, 0}});
  int last = 0;
  for (const SrvRecord& record : found.records) found.hosts[record.host][0] = Some({absl::StrCat("10.0.0.", ++last)});
  Good good;
  ASSERT_EQ(Merge(found, good), kSuccess);
  EXPECT_EQ(Servers(Name("_x._tcp.y", DnsType::kSrv), good),
            (Texts{"10.0.0.1:1 256", "10.0.0.2:2 128", "10.0.0.3:3 1", "10.0.0.4:4 7 backup", "10.0.0.5:5 1 backup"}));
}

TEST(Srv, OneAddressIsOneServer) {
  Found found = FoundRecords({{"a", 1, 20, 9}, {"a", 1, 10, 3}, {"b", 1, 10, 5}, {"b", 2, 10, 5}});
  found.hosts["a"][0] = found.hosts["b"][0] = Some({"10.0.0.1"});
  Good good;
  ASSERT_EQ(Merge(found, good), kSuccess);
  EXPECT_EQ(Servers(Name("_x._tcp.y", DnsType::kSrv), good), (Texts{"10.0.0.1:1 5", "10.0.0.1:2 5"}));
}

TEST(Srv, AHostThatFailsKeepsItsAddresses) {
  DnsNameConfig name = Name("_x._tcp.y", DnsType::kSrv);
  Found found = FoundRecords({{"a", 1, 10, 1}, {"b", 1, 10, 1}});
  found.hosts["a"][0] = Some({"10.0.0.1"});
  found.hosts["b"][0] = Some({"10.0.0.2"});
  Good good;
  ASSERT_EQ(Merge(found, good), kSuccess);
  found.hosts["a"][0] = Some({"10.0.0.3"});
  found.hosts["b"] = {Failed(kTimeout), Failed(kTimeout)};
  EXPECT_EQ(Merge(found, good), kSuccess);
  EXPECT_EQ(Servers(name, good), (Texts{"10.0.0.2:1 1", "10.0.0.3:1 1"}));
  found.hosts["a"] = {Failed(kServerFailure), Failed(kServerFailure)};
  found.records = {{"a", 7, 10, 1}};
  EXPECT_EQ(Merge(found, good), kTimeout);
  EXPECT_EQ(Servers(name, good), (Texts{"10.0.0.2:1 1", "10.0.0.3:1 1"})) << "as a whole";
  Found none;
  none.srv_result = kNoName;
  EXPECT_EQ(Merge(none, good), kNoName);
  EXPECT_EQ(Servers(name, good).size(), 2u);
}

// ---- When to ask again ----

TEST(LookAgain, ByTheTtlWithinBounds) {
  DnsConfig dns{.min_ttl = milliseconds(2500), .max_ttl = seconds(100)};
  auto after = [&](LookupResult result, seconds ttl, double random = 0) { return LookAgainAfter(result, ttl, true, dns, random); };
  EXPECT_EQ(after(kSuccess, seconds(0)), milliseconds(2500));
  EXPECT_EQ(after(kSuccess, seconds(2)), milliseconds(2500));
  EXPECT_EQ(after(kSuccess, seconds(50)), seconds(50));
  EXPECT_EQ(after(kSuccess, seconds(101)), seconds(100));
  EXPECT_EQ(after(kSuccess, seconds::max()), seconds(100)) << "no record said";
  EXPECT_EQ(after(kSuccess, seconds(50), 0.5), milliseconds(47500)) << "spread";
  EXPECT_EQ(after(kSuccess, seconds(1), 0.99), milliseconds(2500)) << "but not below the bound";
  EXPECT_EQ(after(kTimeout, seconds::max()), milliseconds(2500));
  EXPECT_EQ(LookAgainAfter(kTimeout, seconds::max(), false, dns, 0), seconds(1)) << "clients are refused";
  EXPECT_EQ(LookAgainAfter(kNoName, seconds::max(), false, {.min_ttl = milliseconds(100), .max_ttl = seconds(1)}, 0.9), milliseconds(100));
}

std::vector<unsigned char> Message(const std::string& bytes) { return {bytes.begin(), bytes.end()}; }

TEST(LeastTtl, OfAllAnswers) {
  std::string head("\0\1\x81\x80\0\1\0\2\0\0\0\0", 12);
  std::string question("\2db\0\0\1\0\1", 8);
  std::string alias("\xc0\x0c\0\5\0\1\0\0\0\x3c\0\5\3abc\0", 17);
  std::string address("\3abc\0\0\1\0\1\0\0\1\x2c\0\4\x0a\0\0\1", 19);
  std::string whole = head + question + alias + address;
  EXPECT_EQ(LeastTtl(Message(whole)), seconds(60));
  EXPECT_EQ(LeastTtl(Message(head + question + address + address)), seconds(300));
  for (size_t length = 0; length < whole.size(); ++length) EXPECT_EQ(LeastTtl(Message(whole.substr(0, length))), seconds::max());
  whole[head.size() + question.size() + 6] = '\x80';
  EXPECT_EQ(LeastTtl(Message(whole)), seconds(0)) << "none can be so long";
}

// Whatever comes, no byte outside is read (the sanitizers watch).
TEST(LeastTtl, AnyBytes) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 20000; ++i) {
    std::vector<unsigned char> message(random() % 64);
    for (unsigned char& byte : message) byte = random() % 4 == 0 ? static_cast<unsigned char>(random()) : random() % 3;
    EXPECT_GE(LeastTtl(message), seconds(0));
  }
}

}  // namespace
}  // namespace ringmain
