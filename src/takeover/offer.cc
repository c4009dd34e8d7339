#include "takeover/offer.h"

#include "absl/strings/str_cat.h"
#include "takeover/cbor.h"

namespace ringmain {
std::string EncodeHello() {
  return ToCbor({{"newest", kTakeoverVersion}, {"oldest", kOldestTakeoverVersion}, {"program", RINGMAIN_VERSION}});
}

absl::Status CheckHello(std::string_view body) {
  try {
    Json json = FromCbor(body).value_or(Json());
    auto newest = Number<uint32_t>(json.at("newest")), oldest = Number<uint32_t>(json.at("oldest"));
    if (oldest <= kTakeoverVersion && newest >= kOldestTakeoverVersion) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat("the versions do not fit: ringmain ", json.value("program", "?"), " speaks takeover ",
                                                      oldest, " to ", newest, ", ringmain " RINGMAIN_VERSION " ", kOldestTakeoverVersion,
                                                      " to ", kTakeoverVersion));
  } catch (const Json::exception&) {
    return absl::InvalidArgumentError("the other process does not speak of a takeover");
  }
}

std::string Encode(const Offer& offer) {
  Json list = Json::array();
  for (const Offer::Listening& one : offer.listening)
    list.push_back({{"listener", one.listener},
                    {"configured", one.configured},
                    {"bound", one.bound},
                    {"sockets", one.sockets},
                    {"device", one.device},
                    {"inode", one.inode}});
  return ToCbor({{"listening", list}});
}

std::optional<Offer> DecodeOffer(std::string_view body) {
  try {
    Offer offer;
    Json json = FromCbor(body).value_or(Json());
    for (const Json& one : json.at("listening"))
      offer.listening.push_back(
          {one.at("listener"), one.at("configured"), one.at("bound"), Number<uint32_t>(one.at("sockets")),
           Number<uint64_t>(one.at("device")), Number<uint64_t>(one.at("inode"))});
    return offer;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

}  // namespace ringmain
