// ConfigWatch: when a file that is looked at now and then has changed. Pure.
//
// By its content: whether an editor writes it in place, a tool puts another in its place, or Kubernetes swaps a symlink above it, it is found
// the same way, on any file system.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace ringmain {

class ConfigWatch {
 public:
  // What the file says now is known.
  void Know(std::string content) {
    known_ = std::move(content);
    candidate_.reset();
  }
  // `content` is none if the file cannot be read: it may be on its way. True, once, if it says something new and said so at the last look,
  // too: then it is not being written.
  bool Look(std::optional<std::string> content) {
    if (!content.has_value() || content == known_) {
      candidate_.reset();
      return false;
    }
    if (candidate_ != content) {
      candidate_ = std::move(content);
      return false;
    }
    Know(*std::move(content));
    return true;
  }

 private:
  std::optional<std::string> known_;
  std::optional<std::string> candidate_;
};

}  // namespace ringmain
