# frozen_string_literal: true

# Each kind of failure that is not an exception of the handler itself, with one attempt.
class Impatient < TaskerCore::Workflow
  input optional: { kind: :string }

  step :only, timeout: 2, retryable: false

  def only(context)
    case context.input["kind"]
    when "hang" then Thread.stop
    when "exit" then exit 3
    when "text" then "not a hash"
    when "nan" then { n: Float::NAN }
    when "null byte" then { text: "a\0b" }
    when "large" then { text: "x" * 2_000_000 }
    when "binary" then { text: "\xff\xfe" }
    when "syntax" then raise NotImplementedError, "not yet written"
    when "own ancestor" then { far: context.results["nowhere"] }
    else { time: Time.utc(2026, 1, 2), symbol: :word, big: 2**200, nested: { 1 => [1.5, nil, true] } }
    end
  end
end
