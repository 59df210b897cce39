// SPDX-License-Identifier: Apache-2.0

#include "bench/harness/record.h"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <fstream>

#include "spawn/base/status.h"

namespace brood::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kContextFile[] = "context.json";
constexpr char kRowsFile[] = "rows.json";
constexpr char kSamplesFile[] = "samples.jsonl";

// Six significant digits are more than any repetition gives back.
double Rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double scale = std::pow(10, 5 - std::floor(std::log10(std::abs(value))));
  return std::round(value * scale) / scale;
}

absl::Status WriteJson(const std::filesystem::path& path, const Json& json) {
  // Whole or not at all: a killed run must not leave half a file where there was a good one.
  const std::filesystem::path partial = path.string() + ".partial";
  std::ofstream file(partial, std::ios::trunc);
  file << json.dump(2) << '\n';
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(partial, path, error);
  if (!file || error) {
    return ErrnoError(error ? error.value() : EIO, "writing {}", path.string());
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> ReadJson(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return ErrnoError(errno, "opening {}", path.string());
  Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return Error(absl::StatusCode::kDataLoss, "{} is no JSON", path.string());
  }
  return json;
}

Json RowsJson(const std::vector<Row>& rows) {
  Json json;
  json["format"] = 1;
  Json& all = json["rows"] = Json::array();
  for (const Row& row : rows) {
    Json& one = all.emplace_back();
    one["name"] = row.name;
    if (!row.floor.empty()) one["floor"] = row.floor;
    if (!row.parameters.empty()) one["parameters"] = row.parameters;
    if (!row.note.empty()) one["note"] = row.note;
    if (!row.unavailable.empty()) one["unavailable"] = row.unavailable;
    if (row.leaves_debt) one["leaves_debt"] = true;
    one["iterations"] = row.iterations;
    one["every"] = row.every;
  }
  return json;
}

Json ToJson(const Measurement& measurement) {
  Json json;
  json["round"] = measurement.round;
  json["row"] = measurement.row;
  json["at_s"] = Rounded(measurement.at_s);
  if (!measurement.values.empty()) {
    Json& values = json["values"] = Json::object();
    for (const auto& [name, series] : measurement.values) {
      Json& list = values[name] = Json::array();
      for (const double value : series) list.push_back(Rounded(value));
    }
  }
  if (!measurement.label.empty()) json["label"] = measurement.label;
  if (!measurement.error.empty()) json["error"] = measurement.error;
  return json;
}

Measurement FromJson(const Json& json) {
  Measurement out;
  out.round = json.at("round");
  out.row = json.at("row");
  out.at_s = json.value("at_s", 0.0);
  out.label = json.value("label", "");
  out.error = json.value("error", "");
  if (json.contains("values")) out.values = json.at("values").get<Series>();
  return out;
}

}  // namespace

absl::StatusOr<Record> Record::Create(const std::filesystem::path& directory, const Json& context,
                                      const std::vector<Row>& rows) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return ErrnoError(error.value(), "making the directory {}", directory.string());
  if (std::filesystem::exists(directory / kSamplesFile)) {
    return Error(absl::StatusCode::kAlreadyExists,
                 "{} holds a run already; go on with it by --resume, or name another directory",
                 directory.string());
  }
  Record record(directory);
  BROOD_RETURN_IF_ERROR(record.WriteContext(context));
  BROOD_RETURN_IF_ERROR(WriteJson(directory / kRowsFile, RowsJson(rows)));
  BROOD_RETURN_IF_ERROR(record.OpenSamples());
  return record;
}

absl::StatusOr<Record> Record::Resume(const std::filesystem::path& directory, const Json& context,
                                      const std::vector<Row>& rows) {
  Record record(directory);
  BROOD_ASSIGN_OR_RETURN(const Json old_context, ReadJson(directory / kContextFile));
  BROOD_ASSIGN_OR_RETURN(const Json old_rows, ReadJson(directory / kRowsFile));
  const Json::json_pointer commit("/brood/commit");
  if (!old_context.contains(commit) || old_context.at(commit) != context.at(commit)) {
    return Error(absl::StatusCode::kFailedPrecondition,
                 "the run in {} was of another commit than this program; build that one to go on "
                 "with it",
                 directory.string());
  }
  if (old_rows != RowsJson(rows)) {
    return Error(absl::StatusCode::kFailedPrecondition,
                 "the run in {} is of other rows; give the same --full, --filter and --payload as "
                 "it had, on the same machine",
                 directory.string());
  }
  BROOD_RETURN_IF_ERROR(record.ReadSamples());
  BROOD_RETURN_IF_ERROR(record.OpenSamples());
  return record;
}

absl::Status Record::WriteContext(const Json& context) const {
  return WriteJson(directory_ / kContextFile, context);
}

absl::Status Record::OpenSamples() {
  const std::filesystem::path path = directory_ / kSamplesFile;
  samples_.reset(std::fopen(path.c_str(), "ae"));
  if (!samples_) return ErrnoError(errno, "opening {}", path.string());
  return absl::OkStatus();
}

absl::Status Record::ReadSamples() {
  const std::filesystem::path path = directory_ / kSamplesFile;
  std::ifstream file(path);
  if (!file) return ErrnoError(errno, "opening {}", path.string());
  std::uintmax_t whole = 0;
  for (std::string line; std::getline(file, line);) {
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded() || file.eof()) break;  // the last one, cut short
    Measurement& one = measurements_.emplace_back(FromJson(json));
    done_.emplace(one.round, one.row);
    whole += line.size() + 1;
  }
  file.close();
  std::error_code error;
  std::filesystem::resize_file(path, whole, error);
  if (error) return ErrnoError(error.value(), "cutting {} to its whole lines", path.string());
  return absl::OkStatus();
}

absl::Status Record::Append(Measurement measurement) {
  const std::string line = ToJson(measurement).dump() + "\n";
  if (std::fwrite(line.data(), 1, line.size(), samples_.get()) != line.size() ||
      std::fflush(samples_.get()) != 0) {
    return ErrnoError(errno, "writing to {}", (directory_ / kSamplesFile).string());
  }
  done_.emplace(measurement.round, measurement.row);
  measurements_.push_back(std::move(measurement));
  return absl::OkStatus();
}

}  // namespace brood::bench
