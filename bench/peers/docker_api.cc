// SPDX-License-Identifier: Apache-2.0

#include "bench/peers/docker_api.h"

#include <curl/curl.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "bench/peers/run_command.h"
#include "spawn/base/status.h"

namespace brood::bench {

using Json = nlohmann::json;

namespace {

template <typename T>
T Field(const std::string& text, const char* key, T otherwise) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto found = json.is_object() ? json.find(key) : json.end();
  return found == json.end() || found->is_null() ? otherwise : found->get<T>();
}

std::size_t Keep(char* bytes, std::size_t size, std::size_t count, void* answer) {
  static_cast<std::string*>(answer)->append(bytes, size * count);
  return size * count;
}

}  // namespace

absl::StatusOr<std::string> DockerApi::Ask(const std::string& method, const std::string& path,
                                           const std::string& body) const {
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  if (curl == nullptr) return Error(absl::StatusCode::kResourceExhausted, "libcurl does not start");
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(
      curl_slist_append(nullptr, "Content-Type: application/json"), curl_slist_free_all);
  std::string answer;
  // The host's name is nobody's: the socket decides who is asked.
  curl_easy_setopt(curl.get(), CURLOPT_URL, ("http://docker" + path).c_str());
  curl_easy_setopt(curl.get(), CURLOPT_UNIX_SOCKET_PATH, socket_.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_CUSTOMREQUEST, method.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, Keep);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, 60L);
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  if (const CURLcode done = curl_easy_perform(curl.get()); done != CURLE_OK) {
    return Error(absl::StatusCode::kUnavailable, "asking dockerd for {} {}: {}", method, path,
                 curl_easy_strerror(done));
  }
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status < 200 || status > 299) {
    return Error(absl::StatusCode::kFailedPrecondition, "dockerd refused {} {} with {}: {}", method,
                 path, status, LastWords(answer));
  }
  return answer;
}

absl::StatusOr<std::string> DockerApi::Run(const std::string& image,
                                           const std::string& command) const {
  const Json container = {{"Image", image},
                          {"Cmd", {command}},
                          {"HostConfig",
                           {{"NetworkMode", "none"},
                            {"ReadonlyRootfs", true},
                            {"CapDrop", {"ALL"}},
                            {"SecurityOpt", {"no-new-privileges"}},
                            {"Tmpfs", {{"/tmp", ""}}}}}};
  BROOD_ASSIGN_OR_RETURN(const std::string created,
                         Ask("POST", "/containers/create", container.dump()));
  const std::string id = Field<std::string>(created, "Id", "");
  BROOD_RETURN_IF_ERROR(Ask("POST", "/containers/" + id + "/start", "").status());
  BROOD_ASSIGN_OR_RETURN(const std::string ended, Ask("POST", "/containers/" + id + "/wait", ""));
  if (Field(ended, "StatusCode", -1) != 0) {
    return Error(absl::StatusCode::kFailedPrecondition, "dockerd's container ended so: {}", ended);
  }
  return id;
}

absl::Status DockerApi::Remove(const std::string& id) const {
  return Ask("DELETE", "/containers/" + id + "?v=1&force=1", "").status();
}

}  // namespace brood::bench
