// One Relay alone, over random kernels: its own account of the bytes is the kernel's, whatever happens.
#include "session/relay.h"

#include <gtest/gtest.h>

#include "random.h"
#include "sim_io.h"

namespace ringmain::sim {
namespace {

class RelayRun {
 public:
  explicit RelayRun(uint64_t seed) : random_(seed) {
    client_.script.bytes = random_.Between(0, 200'000);
    client_.script.receive_capacity = 1 << 20;
    server_.script.send_capacity = static_cast<uint32_t>(random_.Between(1, 30'000));
    client_.connected = server_.connected = true;
    session_.client = &client_;
    session_.server = &server_;
    client_.session = server_.session = &session_;
    io_.Bind({Op::kNone, 1, 7}, session_);
    relay_.SetSource(client_.fd);
  }

  std::string Run() {
    uint64_t breaks_at = random_.OneIn(3) ? random_.Below(2000) : UINT64_MAX;
    uint64_t stops_at = random_.OneIn(3) ? random_.Below(2000) : UINT64_MAX;
    for (uint64_t step = 0; step < 20'000 && !report_.failed() && !Over(); ++step) {
      if (step == 3) relay_.SetSink(server_.fd);
      if (step == breaks_at) io_.Break(random_.OneIn(2) ? client_ : server_);
      if (step == stops_at) relay_.Stop();
      Step();
      Check();
    }
    report_.Expect(Over(), "the relay does not end");
    if (!server_.broken && stops_at == UINT64_MAX && !report_.failed())
      report_.Expect(relay_.sent() == client_.arrived, "sent ", relay_.sent(), " of ", client_.arrived);
    relay_.Discard();
    report_.Expect(pool_.held() == 0 && pool_.published() == 4, "buffers are lost");
    for (const SimPipe& pipe : io_.pipes()) report_.Expect(!pipe.lent, "a pipe is lost");
    return report_.failure();
  }
  uint32_t splice_begins() const { return client_.splice_begins; }
  uint32_t splice_ends() const { return client_.splice_ends; }
  uint32_t copies() const { return client_.copies; }

 private:
  bool Over() const {
    return !relay_.in_flight() && io_.completions() == 0 && (relay_.drained() || (relay_.complete() && !fed_));
  }

  void Step() {
    switch (random_.Below(5)) {
      case 0:
        if (!client_.fin_arrived && !client_.broken) PeerSends();
        return;
      case 1:
        if (client_.receive.has_value() && client_.receive->poll)
          CarryOutReceivePoll();
        else if (client_.receive.has_value())
          CarryOutReceive();
        return;
      case 2:
        if (server_.send.has_value() && server_.send->poll)
          CarryOutSendPoll();
        else if (server_.send.has_value())
          CarryOutSend();
        return;
      case 3:
        io_.PeerReads(server_, random_.Below(server_.accepted - server_.read + 1));
        return;
      default:
        Turn();
    }
  }

  void PeerSends() {
    uint64_t left = client_.script.bytes - client_.arrived;
    if (left == 0)
      io_.PeerFins(client_);
    else
      io_.PeerSends(client_, random_.Between(1, std::min<uint64_t>(left, random_.OneIn(2) ? 100 : 20'000)));
  }

  void CarryOutReceive() {
    if (client_.receive->cancelled && random_.OneIn(2))
      io_.EndReceive(client_, -ECANCELED);
    else if (!client_.receive->waits || client_.receive_ready())
      io_.CarryOutReceive(client_, static_cast<uint32_t>(random_.Between(1, 8192)), random_.OneIn(8));
  }

  void CarryOutReceivePoll() {
    if (client_.receive->cancelled && random_.OneIn(2))
      io_.EndReceive(client_, -ECANCELED);
    else if (client_.receive_ready() || random_.OneIn(16))
      io_.CarryOutReceivePoll(client_);
  }

  void CarryOutSendPoll() {
    if (server_.send->cancelled && random_.OneIn(2))
      io_.EndSend(server_, -ECANCELED);
    else if (server_.broken || server_.send_room() > 0 || random_.OneIn(16))
      io_.CarryOutSendPoll(server_);
  }

  void CarryOutSend() {
    if (server_.send->cancelled && random_.OneIn(2))
      io_.EndSend(server_, -ECANCELED);
    else
      io_.CarryOutSend(server_, static_cast<uint32_t>(random_.Between(1, 20'000)));
  }

  void Turn() {
    while (io_.completions() > 0) {
      Completion completion = io_.TakeCompletion();
      if (completion.token.op == Op::kSendToServer) {
        if (relay_.OnSend(completion, bytes_) == RelayEvent::kSinkFailed) relay_.Discard();
      } else if (relay_.OnReceive(completion) == RelayEvent::kStarved) {
        fed_ = true;
      }
    }
    env_.direct_budget = UINT32_MAX;
    if (relay_.Pump(bytes_) == RelayEvent::kSinkFailed) relay_.Discard();
    if (fed_ && pool_.published() > 0) {
      fed_ = false;
      relay_.Feed();
    }
  }

  void Check() {
    report_.Expect(relay_.received() == client_.received_handled, "received ", relay_.received());
    report_.Expect(relay_.sent() == server_.sent_handled, "sent ", relay_.sent());
    report_.Expect(bytes_.value() == relay_.sent(), "counted ", bytes_.value());
    report_.Expect(relay_.received() == relay_.sent() + relay_.queued() + relay_.discarded(), "bytes are lost");
    if (!relay_.complete() && !server_.broken && !session_.closing)
      report_.Expect(relay_.discarded() == 0, "bytes are dropped");
    uint64_t piped = io_.Piped(client_);
    report_.Expect(relay_.queued() - piped <= env_.high_water, relay_.queued(), " bytes queued");
    report_.Expect(piped == 0 || relay_.queued() == piped || relay_.complete() || server_.broken, "bytes in both");
    report_.Expect(relay_.queued() > 0 || pool_.held() == 0, "an idle relay holds buffers");
  }

  Random random_;
  Report report_;
  SimIo io_{{.abilities = {.splice = random_.OneIn(2)},
             .server_script = [](size_t) { return PeerScript(); },
             .open_result = [] { return 0; },
             .pipes = {static_cast<uint32_t>(random_.Between(4 << 10, 64 << 10))},
             .pipe_refused = [this] { return random_.OneIn(4); },
             .direct_limit = [this] { return random_.OneIn(2) ? INT_MAX : static_cast<int>(random_.Below(8192)); }},
            report_};
  BufferPool pool_{{4096, 4, 12 * 4096}, io_};
  std::array<Gauge, kRelayModes> modes_;
  RelayEnv env_{io_, pool_, 5 * 4096, modes_};
  Counter bytes_;
  SimSocket& client_ = io_.AddClient({});
  SimSocket& server_ = io_.sockets()[static_cast<size_t>(io_.OpenSocket(AF_INET, nullptr))];
  SimSession& session_ = io_.sessions().front();
  Relay relay_{env_, Op::kReceiveFromClient, Op::kSendToServer, 1, 7, true};
  bool fed_ = false;
};

TEST(RelayAlone, AccountsForEveryByte) {
  uint32_t splice_begins = 0, splice_ends = 0, copies = 0;
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    RelayRun run(seed);
    ASSERT_EQ(run.Run(), "") << "seed " << seed;
    splice_begins += run.splice_begins();
    splice_ends += run.splice_ends();
    copies += run.copies();
  }
  EXPECT_GT(splice_begins, 50u);
  EXPECT_GT(splice_ends, 10u);
  EXPECT_GT(copies, 500u);
}

}  // namespace
}  // namespace ringmain::sim
