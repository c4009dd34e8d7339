#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <sstream>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "config/config.h"
#include "config/reader.h"
#include "config/schema.h"

namespace ringmain {
namespace {

// Finds where a second document starts, which YAML::Load would silently leave out. (YAML::LoadAll of yaml-cpp 0.7 never
// ends on the text ",": it makes empty documents without reading on.)
class DocumentCounter : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override { starts_.push_back(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
  const std::vector<YAML::Mark>& starts() const { return starts_; }

 private:
  std::vector<YAML::Mark> starts_;
};

// YAML allows no control characters but tab and line ends, and yaml-cpp takes 0x04 for the end of the file.
bool CheckCharacters(std::string_view text, ErrorList& errors) {
  Place place;
  for (unsigned char c : text) {
    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f) {
      errors.Add(place, absl::StrCat("the character 0x", absl::Hex(c, absl::kZeroPad2),
                                     " is not allowed; the file must be UTF-8 text"));
      return false;
    }
    ++place.column;
    if (c == '\n') place = {place.line + 1, 1};
  }
  return true;
}

std::optional<Config> Read(std::string_view text, ErrorList& errors) {
  if (!CheckCharacters(text, errors)) return std::nullopt;
  // Without the last line end: yaml-cpp 0.7 finds an open quote at the end of the file only if no line end comes
  // between.
  std::string trimmed(absl::StripTrailingAsciiWhitespace(absl::string_view(text.data(), text.size())));
  std::istringstream stream(trimmed);
  DocumentCounter counter;
  YAML::Parser parser(stream);
  if (parser.HandleNextDocument(counter)) parser.HandleNextDocument(counter);

  YAML::Node root = YAML::Load(trimmed);
  if (counter.starts().empty() || root.IsNull()) {
    errors.Add({}, "the file has no keys; it needs at least listeners and upstreams");
    return std::nullopt;
  }
  if (counter.starts().size() > 1)
    errors.Add(PlaceOf(counter.starts()[1]), "a second document starts here; the file must be one document");
  return ReadConfig(root, errors);
}

absl::Status FileError(const std::string& path, std::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", std::string(reason)));
}

absl::Status FileErrno(const std::string& path) { return FileError(path, std::generic_category().message(errno)); }

}  // namespace

absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return FileErrno(path);
  std::string text;
  char buffer[16384];
  for (;;) {
    ssize_t count = read(fd.get(), buffer, sizeof(buffer));  // a directory fails here: EISDIR
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileErrno(path);
    if (count == 0) return text;
    text.append(buffer, count);
    if (text.size() > kMaxConfigFileBytes) return FileError(path, "larger than 4 MiB; this is not a configuration");
  }
}

absl::StatusOr<std::shared_ptr<const Config>> LoadText(std::string_view yaml, const std::string& file) {
  if (yaml.size() > kMaxConfigFileBytes) return FileError(file, "larger than 4 MiB; this is not a configuration");
  ErrorList errors;
  std::optional<Config> config;
  try {
    config = Read(yaml, errors);
  } catch (const YAML::DeepRecursion& error) {
    errors.Add(PlaceOf(error.mark), "nested too deeply");
  } catch (const YAML::Exception& error) {
    errors.Add(PlaceOf(error.mark),
               absl::StrCat("not valid YAML: ", error.msg, "; check indentation, colons, quotes and brackets here"));
  }
  if (!errors.empty()) return errors.ToStatus(file);
  return std::make_shared<const Config>(*std::move(config));
}

absl::StatusOr<std::shared_ptr<const Config>> LoadFile(const std::string& path, std::string* text_out) {
  absl::StatusOr<std::string> text = ReadConfigFile(path);
  if (!text.ok()) return text.status();
  if (text_out != nullptr) *text_out = *text;
  return LoadText(*text, path);
}

}  // namespace ringmain
