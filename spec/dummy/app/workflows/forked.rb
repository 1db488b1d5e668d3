# frozen_string_literal: true

# A diamond in which the steps that the input names fail.
class Forked < TaskerCore::Workflow
  input required: { failing: :array }

  STEPS = { a: [], b: [:a], c: [:a], d: %i[b c] }.freeze

  STEPS.each do |name, parents|
    step name, depends_on: parents, retry: { max_attempts: 2, backoff: :none }
    define_method(name) { |context| context.input["failing"].include?(name.to_s) ? raise("no") : {} }
  end
end
