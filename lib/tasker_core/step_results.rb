# frozen_string_literal: true

module TaskerCore
  # Results of the steps before one. Those of its parents are at hand unless they were too long to come with the claim; the
  # others are read when they are asked for.
  class StepResults
    # Of results that were read, so many bytes are kept for the next time.
    CACHE_BYTES = 4 * 1024 * 1024
    # For a step with nothing before it but its parents.
    NONE = ->(_names, _after) { { "results" => {}, "after" => nil, "names" => [] } }

    # @param included [Hash{String => Hash}]
    # @param step [String] whose view this is
    # @param deferred [Array<String>] names of parents whose results are not at hand
    # @param ancestors [#call] takes names (nil: all) and the position after which to continue (nil: the beginning);
    #   returns a Hash: "results" by name, as many as fit into one answer; "after", the position to continue after, or nil;
    #   "names" of all steps before this one, if it began at the beginning; "bytes", its length, if it is known
    def initialize(included, step:, ancestors:, deferred: [])
      @included = included
      @step = step
      @deferred = deferred
      @ancestors = ancestors
      @cached = {}
      @cached_bytes = 0
    end

    # @param name [String, Symbol] of a step before this one
    # @return [Hash{String => Object}]
    # @raise [UnknownStepError] when it is not before this one
    # @raise [PermanentError] when the database cannot read it
    # @raise [RetryableError] when the database cannot be asked
    def [](name)
      name = name.to_s
      @included.fetch(name) { @cached.fetch(name) { read(name) } }
    end
    alias fetch []

    # @return [Object, nil] something inside the result of a step
    def dig(name, *keys) = keys.empty? ? self[name] : self[name]&.dig(*keys)

    def key?(name) = @included.key?(name.to_s) || @deferred.include?(name.to_s) || names.include?(name.to_s)

    # All at once, however long they are together: where they may be many, ask for one after the other.
    # @return [Hash{String => Hash}] of every step before this one
    def to_h
      all = {}
      after = nil
      loop do
        response = @ancestors.call(nil, after)
        all.update(response.fetch("results"))
        after = response["after"] or break
      end
      all.merge(@included)
    end

    # @return [Array<String>] of every step before this one
    def names = @names ||= @ancestors.call([], nil).fetch("names")

    # @return [Integer] how many steps are before this one
    def size = names.size

    # Without the results: they may be long, and do not belong into an error's message.
    def inspect = "#<#{self.class.name} of the steps before #{@step}>"

    private

    def read(name)
      response = @ancestors.call([name], nil)
      @names ||= response["names"]
      results = response.fetch("results")
      result = results.fetch(name) { raise UnknownStepError.of(name, names, "is not before step #{@step}") }
      cache(name, result, response["bytes"].to_i)
    end

    def cache(name, result, bytes)
      if @cached_bytes + bytes > CACHE_BYTES
        @cached = {}
        @cached_bytes = 0
      end
      @cached_bytes += bytes
      @cached[name] = result
    end
  end
end
