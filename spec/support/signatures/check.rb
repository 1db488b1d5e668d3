# frozen_string_literal: true

# Checks every call of the public API against its signature in `sig`, while specs run: `rake spec:signatures` requires
# this before the gem. Violations are written to the file in SIGNATURE_VIOLATIONS, also by forked processes.
require "shellwords"
require "yaml"

signatures = ["-I", "sig", "-I", __dir__]
libraries = YAML.load_file("sig/manifest.yaml").fetch("dependencies").flat_map { |library| ["-r", library["name"]] }
ENV["RBS_TEST_OPT"] = Shellwords.join(signatures + libraries)
ENV["RBS_TEST_TARGET"] = "TaskerCore,TaskerCore::*"
ENV["RBS_TEST_LOGLEVEL"] = "fatal"
ENV["RBS_TEST_DOUBLE_SUITE"] = "rspec"

require "rbs/test/setup"

# A call that raises an error may have had any arguments: that is how wrong ones are rejected.
module SignatureViolations
  def call(receiver, trace)
    super unless trace.method_call.exception?
  rescue RBS::Test::Tester::TypeError => e
    place = caller.find { |line| line.include?("_spec.rb:") }
    File.write(ENV.fetch("SIGNATURE_VIOLATIONS"), "#{e.message} (#{place})\n", mode: "a")
  end
end

RBS::Test::Tester::MethodCallTester.prepend(SignatureViolations)
