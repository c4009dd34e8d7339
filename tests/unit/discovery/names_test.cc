#include "discovery/names.h"

#include <gtest/gtest.h>

#include "config/dns_name.h"

namespace ringmain {
namespace {

using enum LookupResult;

class NamesTest : public testing::Test {
 protected:
  void Add(const std::string& name, DnsType type = DnsType::kAny) {
    NameTarget& target = targets_[{"back", name}];
    target.name = ParseDnsName(name, type).value();
    target.dns.max_ttl = seconds(60);
    target.metrics = std::make_shared<NameMetrics>(name);
  }
  void Follow() { names_.Follow(targets_, now_); }
  static Found Answer(const std::string& address, seconds ttl = seconds(10)) {
    Found found;
    found.ttl = ttl;
    found.hosts["db"][0] = {kSuccess, {SocketAddress::ParseHost(address).value()}};
    return found;
  }
  static Found Failure(LookupResult result) {
    Found found;
    found.hosts["db"][0].result = found.hosts["db"][1].result = result;
    return found;
  }

  TimePoint now_ = TimePoint(std::chrono::hours(1));
  NameTargets targets_;
  Names names_{1};
};

TEST_F(NamesTest, TheLastGoodAnswerHolds) {
  Add("db:5");
  Follow();
  EXPECT_EQ(names_.unanswered(), 1u);
  auto work = names_.TakeDue(now_);
  ASSERT_TRUE(work.has_value());
  EXPECT_FALSE(names_.TakeDue(now_).has_value()) << "it is being looked up";
  EXPECT_FALSE(names_.NextDue().has_value());
  Names::Outcome outcome = names_.Ended(*work, Answer("10.0.0.1"), now_);
  EXPECT_TRUE(outcome.news && outcome.first);
  EXPECT_EQ(names_.unanswered(), 0u);
  ASSERT_TRUE(outcome.servers.has_value());
  EXPECT_EQ(outcome.servers->at(0).address.ToString(), "10.0.0.1:5");
  EXPECT_FALSE(names_.TakeDue(now_ + milliseconds(8999)).has_value());
  EXPECT_LE(*names_.NextDue(), now_ + seconds(10));
  now_ += seconds(10);
  for (bool again : {false, true}) {
    work = names_.TakeDue(now_);
    outcome = names_.Ended(*work, Failure(kServerFailure), now_);
    EXPECT_EQ(outcome.result, kServerFailure);
    EXPECT_EQ(outcome.news, !again) << "told once";
    EXPECT_FALSE(outcome.servers.has_value());
    EXPECT_EQ(outcome.held, 1u);
    EXPECT_EQ(*names_.NextDue(), now_ + seconds(5));
    now_ += seconds(5);
  }
  work = names_.TakeDue(now_);
  outcome = names_.Ended(*work, Answer("10.0.0.1"), now_);
  EXPECT_TRUE(outcome.news);
  EXPECT_FALSE(outcome.first);
  EXPECT_FALSE(outcome.servers.has_value()) << "the same as before";
  now_ += seconds(10);
  EXPECT_TRUE(names_.Ended(*names_.TakeDue(now_), Answer("10.0.0.2"), now_).servers.has_value());
}

TEST_F(NamesTest, AnAnswerOfNoUseIsNone) {
  Add("db:5");
  Follow();
  EXPECT_EQ(names_.Ended(*names_.TakeDue(now_), Answer("0.0.0.0"), now_).result, kNoRecords);
  now_ += seconds(1);
  ASSERT_TRUE(names_.Ended(*names_.TakeDue(now_), Answer("10.0.0.1"), now_).servers.has_value());
  now_ += seconds(10);
  Names::Outcome outcome = names_.Ended(*names_.TakeDue(now_), Answer("0.0.0.0"), now_);
  EXPECT_EQ(outcome.result, kNoRecords);
  EXPECT_EQ(outcome.held, 1u);
}

TEST_F(NamesTest, WhatStaysGoesOn) {
  Add("db:5");
  Follow();
  ASSERT_TRUE(names_.Ended(*names_.TakeDue(now_), Answer("10.0.0.1"), now_).servers.has_value());
  Add("other:5");
  Follow();
  EXPECT_EQ(names_.unanswered(), 1u);
  auto work = names_.TakeDue(now_);
  EXPECT_EQ(work->key.second, "other:5");
  EXPECT_FALSE(names_.TakeDue(now_).has_value());
  targets_[{"back", "other:5"}].dns.timeout = seconds(9);
  Follow();
  EXPECT_FALSE(names_.Wants(*work)) << "it is looked up in another way";
  work = names_.TakeDue(now_);
  EXPECT_EQ(work->dns.timeout, seconds(9));
  EXPECT_TRUE(names_.Wants(*work));
  targets_.erase({"back", "other:5"});
  Follow();
  EXPECT_FALSE(names_.Wants(*work));
  EXPECT_EQ(names_.unanswered(), 0u);
}

// Who forgot a name and its answer is told again.
TEST_F(NamesTest, ANameThatWasGoneIsNew) {
  Add("db:5");
  Follow();
  ASSERT_TRUE(names_.Ended(*names_.TakeDue(now_), Answer("10.0.0.1"), now_).servers.has_value());
  Add("db:5");
  Follow();
  EXPECT_EQ(names_.unanswered(), 1u);
  auto work = names_.TakeDue(now_);
  ASSERT_TRUE(work.has_value());
  EXPECT_TRUE(names_.Ended(*work, Answer("10.0.0.1"), now_).servers.has_value());
}

}  // namespace
}  // namespace ringmain
