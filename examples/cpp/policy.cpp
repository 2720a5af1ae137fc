// An exported policy without Python: observations in, actions out, one row of numbers a line.
//
//     policy deploy/policy.onnx < inputs.txt > actions.txt
//
// A line holds the O numbers of an observation, in the units of the environment. Where the policy chooses among M
// candidates, or makes its action of noise, the M x N numbers of standard normal noise may follow; without them the
// noise is drawn from a generator with a fixed seed. Actions leave inside the box. The exit status is 1 where anything is wrong: a
// file that is no policy, a line of another length, a number that is not finite.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <exception>
#include <iomanip>
#include <iostream>
#include <limits>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

class Policy {
 public:
  // samples: candidates where the file leaves their number open (a free dimension); 0 takes it from the file.
  explicit Policy(const std::string& path, int64_t samples = 0)
      : session_(environment_, path.c_str(), options()),
        memory_(Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeCPU)) {
    const auto obs = shape(session_.GetInputTypeInfo(0));
    const auto actions = shape(session_.GetOutputTypeInfo(0));
    if (obs.size() != 2 || actions.size() != 2 || session_.GetOutputCount() != 1)
      throw std::runtime_error(path + " is no policy: expected obs (batch, O) -> actions (batch, A)");
    observation_size_ = obs[1];
    action_size_ = actions[1];
    if (session_.GetInputCount() == 2) {
      const auto noise = shape(session_.GetInputTypeInfo(1));
      samples_ = noise[1] > 0 ? noise[1] : samples;
      candidate_size_ = noise[2];
      if (samples_ < 1)
        throw std::runtime_error(path + " leaves the number of candidates open: give it as the second argument");
    }
  }

  int64_t observation_size() const { return observation_size_; }
  int64_t noise_size() const { return samples_ * candidate_size_; }

  // obs: O finite numbers; noise: noise_size() of them, which may be 0. Returns A numbers inside the box.
  std::vector<float> predict(std::vector<float> obs, std::vector<float> noise) {
    const std::array<int64_t, 2> obs_shape{1, observation_size_};
    const std::array<int64_t, 3> noise_shape{1, samples_, candidate_size_};
    std::vector<Ort::Value> inputs;
    inputs.push_back(
        Ort::Value::CreateTensor<float>(memory_, obs.data(), obs.size(), obs_shape.data(), obs_shape.size()));
    if (samples_ > 0)
      inputs.push_back(
          Ort::Value::CreateTensor<float>(memory_, noise.data(), noise.size(), noise_shape.data(), noise_shape.size()));
    const char* names[] = {"obs", "noise"};
    const char* output = "actions";
    auto result = session_.Run(Ort::RunOptions{nullptr}, names, inputs.data(), inputs.size(), &output, 1);
    const float* first = result.front().GetTensorData<float>();
    std::vector<float> actions(first, first + action_size_);
    if (!std::all_of(actions.begin(), actions.end(), [](float a) { return std::isfinite(a); }))
      throw std::runtime_error("the policy's action is not finite");
    return actions;
  }

 private:
  static Ort::SessionOptions options() {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);  // small networks lose by more
    options.SetInterOpNumThreads(1);
    return options;
  }

  static std::vector<int64_t> shape(const Ort::TypeInfo& type) { return type.GetTensorTypeAndShapeInfo().GetShape(); }

  Ort::Env environment_{ORT_LOGGING_LEVEL_WARNING, "policy"};
  Ort::Session session_;
  Ort::MemoryInfo memory_;
  int64_t observation_size_ = 0;
  int64_t action_size_ = 0;
  int64_t samples_ = 0;         // 0: no noise
  int64_t candidate_size_ = 0;  // numbers of noise that one candidate is made of
};

// The numbers of a line. Throws where there is anything else in it, or a number that is not finite.
std::vector<float> numbers(const std::string& line) {
  std::istringstream stream(line);
  std::vector<float> values;
  for (std::string word; stream >> word;) {
    size_t end = 0;
    const float value = std::stof(word, &end);
    if (end != word.size() || !std::isfinite(value)) throw std::runtime_error("not a finite number: " + word);
    values.push_back(value);
  }
  return values;
}

int run(const std::string& path, int64_t samples) {
  Policy policy(path, samples);
  const auto observation_size = static_cast<size_t>(policy.observation_size());
  const auto noise_size = static_cast<size_t>(policy.noise_size());
  std::mt19937 generator(0);
  std::normal_distribution<float> normal;
  std::cout << std::setprecision(std::numeric_limits<float>::max_digits10);
  for (std::string line; std::getline(std::cin, line);) {
    const auto values = numbers(line);
    if (values.size() != observation_size && values.size() != observation_size + noise_size)
      throw std::runtime_error("a line has " + std::to_string(values.size()) + " numbers, expected " +
                               std::to_string(observation_size) + ", and " + std::to_string(noise_size) +
                               " of noise or none");
    const auto split = values.begin() + static_cast<std::ptrdiff_t>(observation_size);
    std::vector<float> noise(split, values.end());
    while (noise.size() < noise_size) noise.push_back(normal(generator));
    for (const float action : policy.predict({values.begin(), split}, noise)) std::cout << action << ' ';
    std::cout << '\n';
  }
  return 0;
}

int main(int count, char** arguments) {
  if (count != 2 && count != 3) {
    std::cerr << "usage: policy POLICY.onnx [CANDIDATES] < inputs.txt > actions.txt\n";
    return 2;
  }
  try {
    return run(arguments[1], count == 3 ? std::stoll(arguments[2]) : 0);
  } catch (const std::exception& error) {
    std::cerr << "policy: " << error.what() << '\n';
    return 1;
  }
}
