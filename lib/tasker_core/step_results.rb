# frozen_string_literal: true

module TaskerCore
  # Results of the steps before one. Those of its parents are at hand; the others are asked for when first needed.
  class StepResults
    # @param at_hand [Hash{String => Hash}]
    # @param step [String] whose view this is
    # @param ancestors [#call] answers all of them
    def initialize(at_hand, step:, ancestors:)
      @at_hand = at_hand
      @step = step
      @ancestors = ancestors
      @all = nil
    end

    # @param name [String, Symbol] of a step before this one
    # @return [Hash{String => Object}]
    # @raise [UnknownStepError] when it is not before this one
    def [](name)
      name = name.to_s
      @at_hand.fetch(name) { all.fetch(name) { raise unknown(name) } }
    end
    alias fetch []

    # @return [Object, nil] something inside the result of a step
    def dig(name, *keys) = keys.empty? ? self[name] : self[name]&.dig(*keys)

    def key?(name) = @at_hand.key?(name.to_s) || all.key?(name.to_s)

    # @return [Hash{String => Hash}] of every step before this one
    def to_h = all.merge(@at_hand)

    private

    def all = @all ||= @ancestors.call

    def unknown(name) = UnknownStepError.of(name, to_h.keys, "is not before step #{@step}")
  end
end
