// Lists of sessions: what they say, and how they are asked for while sessions come and go.
#include <future>
#include <set>
#include <thread>

#include "directed.h"
#include "worker/session_listing.h"

namespace ringmain::sim {
namespace {

using Records = SessionListing::Records;

class Listing : public Directed {
 protected:
  Records ListAll() {
    Records records;
    for (std::optional<uint32_t> slot = 0; slot.has_value();) slot = world_->sessions().List(*slot, 5, SIZE_MAX, records);
    return records;
  }
  SessionRecord Only() {
    Records records = ListAll();
    EXPECT_EQ(records.size(), 1u);
    return records.empty() ? SessionRecord() : records[0];
  }
  bool Serve(SessionListing& listing) { return listing.Serve(world_->sessions(), world_->io().Now()); }
  static bool Answered(const std::future<Records>& answer) {
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
  Records records;
  std::optional<uint32_t> next = world_->sessions().List(0, 10, SIZE_MAX, records);
  EXPECT_EQ(records.size(), 10u);
  // Some that were passed and some that were not end, and others take their slots.
  for (size_t i = 0; i < sessions.size(); i += 4) world_->io().Break(*sessions[i]->client);
  RunUntilQuiet();
  for (int i = 0; i < 60; ++i) Established();
  while (next.has_value()) next = world_->sessions().List(*next, 10, SIZE_MAX, records);
  std::set<uint64_t> numbers;
  for (const SessionRecord& record : records) EXPECT_TRUE(numbers.insert(record.number).second) << record.number;
  for (size_t i = 0; i < sessions.size(); ++i) EXPECT_TRUE(i % 4 == 0 || numbers.contains(i + 1)) << i;

  records.clear();
  EXPECT_EQ(world_->sessions().List(0, 1000, 30, records), std::nullopt);
  EXPECT_EQ(records.size(), 30u);
}

TEST_F(Listing, AStepPassesFreeSlotsFaster) {
  Start();
  for (int i = 0; i < 640; ++i) Established();
  world_->CloseAll(CloseReason::kShutdown);
  RunUntilQuiet();
  Established();
  Records records;
  uint32_t steps = 1;
  for (std::optional<uint32_t> slot = 0; (slot = world_->sessions().List(*slot, 2, SIZE_MAX, records)).has_value();) ++steps;
  EXPECT_EQ(records.size(), 1u);
  EXPECT_GE(steps, 640u / 32);
  EXPECT_LE(steps, 640u / 32 + 2);
}

TEST_F(Listing, IsMadeInSteps) {
  Start();
  for (uint32_t i = 0; i < 2 * SessionListing::kSessionsPerTurn; ++i) Established();
  SessionListing listing;
  EXPECT_FALSE(Serve(listing)) << "nobody asked";
  std::future<Records> all = listing.Ask(1000, Later());
  std::future<Records> few = listing.Ask(3, Later());
  int steps = 0;
  while (Serve(listing)) {
    ++steps;
    EXPECT_LE(steps, 3);
    EXPECT_TRUE(steps > 1 || !Answered(all));
  }
  ASSERT_TRUE(Answered(all) && Answered(few));
  EXPECT_EQ(all.get().size(), 2u * SessionListing::kSessionsPerTurn);
  EXPECT_EQ(few.get().size(), 3u);
  // The next one is a new walk.
  all = listing.Ask(1000, Later());
  while (Serve(listing)) {
  }
  EXPECT_EQ(all.get().size(), 2u * SessionListing::kSessionsPerTurn);
}

TEST_F(Listing, WhoGaveUpCostsNoWalk) {
  Start();
  for (uint32_t i = 0; i < 2 * SessionListing::kSessionsPerTurn; ++i) Established();
  SessionListing listing;
  TimePoint give_up = Later();
  std::future<Records> late = listing.Ask(1000, give_up);
  std::future<Records> gone = listing.Ask(1000, give_up);
  EXPECT_TRUE(Serve(listing));
  Pass(seconds(1));
  EXPECT_TRUE(Serve(listing));
  EXPECT_TRUE(Serve(listing));
  EXPECT_FALSE(Serve(listing));
  EXPECT_LE(late.get().size() + gone.get().size(), SessionListing::kSessionsPerTurn);
}

TEST_F(Listing, AnswersAtOnceWhenClosed) {
  Start();
  for (uint32_t i = 0; i < 2 * SessionListing::kSessionsPerTurn; ++i) Established();
  SessionListing listing;
  std::future<Records> begun = listing.Ask(1000, Later());
  EXPECT_TRUE(Serve(listing));
  std::future<Records> waiting = listing.Ask(1000, Later());
  listing.Close();
  EXPECT_TRUE(Answered(begun) && Answered(waiting));
  std::future<Records> late = listing.Ask(1000, Later());
  ASSERT_TRUE(Answered(late));
  EXPECT_TRUE(late.get().empty());
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
        std::future<Records> answer = listing.Ask(10, TimePoint::max());
        if (i % 3 == t) continue;
        full += answer.get().size() == 10 ? 1 : 0;
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
  std::future<Records> left;
  {
    SessionListing listing;
    left = listing.Ask(10, Later());
  }
  EXPECT_THROW(left.get(), std::future_error);
}

}  // namespace
}  // namespace ringmain::sim
