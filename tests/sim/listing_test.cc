// Lists of sessions: what they say, and how they are asked for while sessions come and go.
#include <algorithm>
#include <future>
#include <set>
#include <thread>

#include "directed.h"
#include "worker/session_listing.h"

namespace ringmain::sim {
namespace {

using Records = std::vector<SessionRecord>;

SessionQuery Any(size_t most) { return {.most = most}; }

class Listing : public Directed {
 protected:
  SessionsFound Find(const SessionQuery& query, uint32_t step = 5) {
    SessionsFound found;
    for (std::optional<uint32_t> slot = 0; slot.has_value();) slot = world_->sessions().List(*slot, step, query, found);
    return found;
  }
  Records ListAll() { return Find(Any(SIZE_MAX)).records; }
  SessionRecord Only() {
    Records records = ListAll();
    EXPECT_EQ(records.size(), 1u);
    return records.empty() ? SessionRecord() : records[0];
  }
  bool Serve(SessionListing& listing) { return listing.Serve(world_->sessions(), world_->io().Now()); }
  static bool Answered(const std::future<SessionsFound>& answer) {
    return answer.wait_for(seconds(0)) == std::future_status::ready;
  }
  TimePoint Later() { return world_->io().Now() + seconds(1); }
};

TEST_F(Listing, SaysWhatASessionDoes) {
  Start();
  SimSocket& client = world_->Accept(Passive());
  Turn();
  SessionRecord record = Only();
  EXPECT_EQ(record.number, 1u);
  EXPECT_EQ(record.state, SessionState::kConnecting);
  EXPECT_EQ(record.server, 0) << "it is being connected";
  ASSERT_TRUE(record.client.has_value());
  EXPECT_EQ(record.client->ToString(), "10.0.0.2:" + std::to_string(client.fd));

  world_->io().EndConnect(*client.session->server, 0);
  Turn();
  client.session->server->script.send_capacity = 600;
  world_->io().PeerSends(client, 1000);
  RunUntilQuiet();
  record = Only();
  EXPECT_EQ(record.state, SessionState::kEstablished);
  const RelayRecord& to_server = record.relays[0];
  EXPECT_EQ(to_server.mode, RelayMode::kBuffered);
  EXPECT_EQ(to_server.received, 1000u);
  EXPECT_EQ(to_server.sent, 600u);
  EXPECT_EQ(to_server.queued, 400u);
  EXPECT_EQ(record.relays[1].receive, ReceiveKind::kSingle);
  EXPECT_FALSE(record.relays[1].ended);

  world_->io().PeerFins(*client.session->server);
  RunUntilQuiet();
  EXPECT_TRUE(Only().relays[1].ended);
  EXPECT_EQ(Only().relays[1].receive, ReceiveKind::kNone);
}

TEST_F(Listing, IdleIsTheTimeSinceAByteCame) {
  Start();
  SimSession& session = Established();
  PassInSteps(seconds(5));
  EXPECT_EQ(Only().age, seconds(5));
  EXPECT_EQ(Only().idle, seconds(5));
  world_->io().PeerSends(*session.server, 10);
  RunUntilQuiet();
  EXPECT_EQ(Only().idle, Duration(0)) << "no sweep has been there yet";
  PassInSteps(seconds(3));
  EXPECT_EQ(Only().age, seconds(8));
  EXPECT_LE(Only().idle, seconds(3));
  EXPECT_GE(Only().idle, seconds(3) - 2 * Sessions::kSweepInterval);
}

TEST_F(Listing, WhatClosesIsListedUntilItIsClosed) {
  Start();
  Established();
  world_->CloseAll(CloseReason::kShutdown);
  EXPECT_EQ(Only().state, SessionState::kClosing);
  RunUntilQuiet();
  EXPECT_TRUE(ListAll().empty());
}

TEST_F(Listing, AWalkPassesEachSessionOnce) {
  Start();
  std::vector<SimSession*> sessions;
  for (int i = 0; i < 150; ++i) sessions.push_back(&Established());
  SessionsFound found;
  std::optional<uint32_t> next = world_->sessions().List(0, 10, Any(SIZE_MAX), found);
  EXPECT_EQ(found.records.size(), 10u);
  // Some that were passed and some that were not end, and others take their slots.
  for (size_t i = 0; i < sessions.size(); i += 4) world_->io().Break(*sessions[i]->client);
  RunUntilQuiet();
  for (int i = 0; i < 60; ++i) Established();
  while (next.has_value()) next = world_->sessions().List(*next, 10, Any(SIZE_MAX), found);
  std::set<uint64_t> numbers;
  for (const SessionRecord& record : found.records) EXPECT_TRUE(numbers.insert(record.number).second) << record.number;
  for (size_t i = 0; i < sessions.size(); ++i) EXPECT_TRUE(i % 4 == 0 || numbers.contains(i + 1)) << i;

  found = {};
  EXPECT_EQ(world_->sessions().List(0, 1000, Any(30), found), std::nullopt);
  EXPECT_EQ(found.records.size(), 30u);
}

TEST_F(Listing, AStepPassesFreeSlotsFaster) {
  Start();
  for (int i = 0; i < 640; ++i) Established();
  world_->CloseAll(CloseReason::kShutdown);
  RunUntilQuiet();
  Established();
  SessionsFound found;
  uint32_t steps = 1;
  for (std::optional<uint32_t> slot = 0; (slot = world_->sessions().List(*slot, 2, Any(SIZE_MAX), found)).has_value();) ++steps;
  EXPECT_EQ(found.records.size(), 1u);
  EXPECT_GE(steps, 640u / 32);
  EXPECT_LE(steps, 640u / 32 + 2);
}

TEST_F(Listing, TheFirstInAnOrder) {
  Start();
  std::vector<SimSession*> sessions;
  for (int i = 0; i < 40; ++i) {
    sessions.push_back(&Established());
    Pass(milliseconds(10));
  }
  // 17 and 40 have no factor in common: each session gets another number of bytes.
  for (size_t i = 0; i < 40; ++i) world_->io().PeerSends(*sessions[i]->client, 100 + i * 17 % 40);
  RunUntilQuiet();
  world_->io().PeerSends(*sessions[3]->server, 5000);
  RunUntilQuiet();
  auto ranked = [&](SessionOrder order, size_t most, std::optional<SessionRank> after = std::nullopt) {
    SessionsFound found = Find({.most = most, .order = order, .after = after});
    EXPECT_EQ(found.matched, 40u);
    std::sort(found.records.begin(), found.records.end(), [](const auto& a, const auto& b) { return a.rank() < b.rank(); });
    return found.records;
  };
  auto bytes = [](const SessionRecord& record) { return record.relays[0].received + record.relays[1].received; };
  Records most = ranked(SessionOrder::kBytes, 4);
  ASSERT_EQ(most.size(), 4u);
  EXPECT_EQ(most[0].number, 4u);
  EXPECT_EQ(bytes(most[1]), 139u);
  EXPECT_EQ(bytes(most[3]), 137u);
  // Page by page each comes once.
  std::set<uint64_t> seen;
  uint64_t last = UINT64_MAX;
  for (Records page = most; !page.empty(); page = ranked(SessionOrder::kBytes, 7, page.back().rank()))
    for (const SessionRecord& record : page) {
      EXPECT_TRUE(seen.insert(record.number).second);
      EXPECT_LE(bytes(record), last);
      last = bytes(record);
    }
  EXPECT_EQ(seen.size(), 40u);
  Records oldest = ranked(SessionOrder::kAge, 3);
  EXPECT_EQ(oldest[0].number, 1u);
  EXPECT_EQ(oldest[2].number, 3u);
  EXPECT_EQ(ranked(SessionOrder::kAge, 3, oldest[2].rank())[0].number, 4u);
  EXPECT_EQ(ranked(SessionOrder::kId, 2, SessionRank{0, 38})[0].number, 39u);
  EXPECT_TRUE(ranked(SessionOrder::kId, 2, SessionRank{0, 40}).empty());
  EXPECT_TRUE(ranked(SessionOrder::kId, 0).empty());
}

TEST_F(Listing, OnlyThoseThatFit) {
  Start();
  SimSession& one = Established();
  Established();
  uint64_t before = Find(Any(10)).records.size();
  ASSERT_EQ(before, 2u);
  SessionRecord first = Find({.most = 10, .number = 1}).records.at(0);
  auto matched = [&](const SessionQuery& query) { return Find(query).matched; };
  EXPECT_EQ(matched({.most = 10, .listener = first.route->listener}), 2u);
  EXPECT_EQ(matched({.most = 10, .listener = "another"}), 0u);
  EXPECT_EQ(matched({.most = 10, .upstream = first.route->upstream}), 2u);
  EXPECT_EQ(matched({.most = 10, .upstream = "another"}), 0u);
  EXPECT_EQ(matched({.most = 10, .server = first.route->servers.at(0)}), 2u);
  EXPECT_EQ(matched({.most = 10, .server = "10.9.9.9:1"}), 0u);
  EXPECT_EQ(matched({.most = 10, .client = Network::Parse("10.0.0.0/24").value()}), 2u);
  EXPECT_EQ(matched({.most = 10, .client = Network::Parse("10.0.1.0/24").value()}), 0u);
  EXPECT_EQ(matched({.most = 10, .client_port = static_cast<uint16_t>(one.client->fd)}), 1u);
  EXPECT_EQ(matched({.most = 10, .number = 2}), 1u);
  EXPECT_EQ(matched({.most = 10, .number = 3}), 0u);
}

TEST_F(Listing, ClosesTheOneThatIsAskedFor) {
  Start();
  Established();
  Established();
  std::optional<SessionRecord> closed = world_->CloseOne(1);
  ASSERT_TRUE(closed.has_value());
  EXPECT_EQ(closed->state, SessionState::kEstablished) << "as it was";
  EXPECT_FALSE(world_->CloseOne(1).has_value()) << "it is closing already";
  RunUntilQuiet();
  EXPECT_EQ(world_->closed(CloseReason::kAdmin), 1u);
  EXPECT_EQ(Only().number, 2u);
  EXPECT_FALSE(world_->CloseOne(1).has_value()) << "it is gone";
}

TEST_F(Listing, NothingIsClosedForWhoGaveUp) {
  Start();
  Established();
  SessionListing listing;
  std::future<SessionsFound> late = listing.Ask({.most = 1, .number = 1, .close = true}, world_->io().Now());
  while (Serve(listing)) {
  }
  EXPECT_TRUE(late.get().records.empty());
  EXPECT_EQ(Only().state, SessionState::kEstablished);
}

TEST_F(Listing, IsMadeInSteps) {
  Start();
  for (uint32_t i = 0; i < 2 * SessionListing::kSessionsPerTurn; ++i) Established();
  SessionListing listing;
  EXPECT_FALSE(Serve(listing)) << "nobody asked";
  std::future<SessionsFound> all = listing.Ask(Any(1000), Later());
  std::future<SessionsFound> few = listing.Ask(Any(3), Later());
  int steps = 0;
  while (Serve(listing)) {
    ++steps;
    EXPECT_LE(steps, 3);
    EXPECT_TRUE(steps > 1 || !Answered(all));
  }
  ASSERT_TRUE(Answered(all) && Answered(few));
  EXPECT_EQ(all.get().records.size(), 2u * SessionListing::kSessionsPerTurn);
  EXPECT_EQ(few.get().records.size(), 3u);
  // The next one is a new walk.
  all = listing.Ask(Any(1000), Later());
  while (Serve(listing)) {
  }
  EXPECT_EQ(all.get().records.size(), 2u * SessionListing::kSessionsPerTurn);
}

TEST_F(Listing, WhoGaveUpCostsNoWalk) {
  Start();
  for (uint32_t i = 0; i < 2 * SessionListing::kSessionsPerTurn; ++i) Established();
  SessionListing listing;
  TimePoint give_up = Later();
  std::future<SessionsFound> late = listing.Ask(Any(1000), give_up);
  std::future<SessionsFound> gone = listing.Ask(Any(1000), give_up);
  EXPECT_TRUE(Serve(listing));
  Pass(seconds(1));
  EXPECT_TRUE(Serve(listing));
  EXPECT_TRUE(Serve(listing));
  EXPECT_FALSE(Serve(listing));
  EXPECT_LE(late.get().records.size() + gone.get().records.size(), SessionListing::kSessionsPerTurn);
}

TEST_F(Listing, AnswersAtOnceWhenClosed) {
  Start();
  for (uint32_t i = 0; i < 2 * SessionListing::kSessionsPerTurn; ++i) Established();
  SessionListing listing;
  std::future<SessionsFound> begun = listing.Ask(Any(1000), Later());
  EXPECT_TRUE(Serve(listing));
  std::future<SessionsFound> waiting = listing.Ask(Any(1000), Later());
  listing.Close();
  EXPECT_TRUE(Answered(begun) && Answered(waiting));
  std::future<SessionsFound> late = listing.Ask(Any(1000), Later());
  ASSERT_TRUE(Answered(late));
  EXPECT_TRUE(late.get().records.empty());
}

// Also under ThreadSanitizer: askers that wait or leave, and a worker that ends in the middle.
TEST_F(Listing, AskersRaceWithTheEndOfTheWorker) {
  Start();
  for (int i = 0; i < 10; ++i) Established();
  SessionListing listing;
  std::atomic<int> answered{0}, full{0};
  std::vector<std::thread> askers;
  for (int t = 0; t < 3; ++t)
    askers.emplace_back([&, t] {
      for (int i = 0; i < 300; ++i) {
        std::future<SessionsFound> answer = listing.Ask(Any(10), TimePoint::max());
        if (i % 3 == t) continue;
        full += answer.get().records.size() == 10 ? 1 : 0;
        ++answered;
      }
    });
  while (full < 100) Serve(listing);
  listing.Close();
  for (std::thread& asker : askers) asker.join();
  EXPECT_EQ(answered, 3 * 200);
}

TEST_F(Listing, RequestsThatNobodyServesAreFreed) {
  Start();
  std::future<SessionsFound> left;
  {
    SessionListing listing;
    left = listing.Ask(Any(10), Later());
  }
  EXPECT_THROW(left.get(), std::future_error);
}

}  // namespace
}  // namespace ringmain::sim
