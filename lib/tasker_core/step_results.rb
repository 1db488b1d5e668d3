# frozen_string_literal: true

module TaskerCore
  # The results of earlier steps, for one step. Those of its parents come with the claim unless they are too long; all
  # others are read from the database on demand.
  class StepResults
    # Bytes of results that are cached after they were read.
    CACHE_BYTES = 4 * 1024 * 1024
    # @api private for a step without results to read
    NONE = ->(_names, _after) { { "results" => {}, "after" => nil, "names" => [] } }

    # @api private
    # @param included [Hash{String => Hash}] results that came with the claim
    # @param step [String] the step that sees these results
    # @param deferred [Array<String>] names of parents whose results the claim omits
    # @param ancestors [#call] takes names (nil: all) and a position after which to continue (nil: the beginning);
    #   returns a Hash: "results" by name, up to the size of one response; "after", the position to continue
    #   after, or nil; "names" of all earlier steps, if it started at the beginning; "bytes", the response's length, if
    #   known
    def initialize(included, step:, ancestors:, deferred: [])
      @included = included
      @step = step
      @deferred = deferred
      @ancestors = ancestors
      @cached = {}
      @cached_bytes = 0
    end

    # @param name [String, Symbol] of an earlier step
    # @return [Hash{String => Object}, nil] nil if an operator resolved the step without a result
    # @raise [UnknownStepError] when the step is not an earlier one
    # @raise [PermanentError] when the database cannot read the result
    # @raise [RetryableError] when the database cannot be reached
    def [](name)
      name = name.to_s
      @included.fetch(name) { @cached.fetch(name) { read(name) } }
    end
    alias fetch []

    # @param name [String, Symbol] of an earlier step
    # @param keys [Array<String, Integer>]
    # @return [Object, nil] a value inside the step's result
    def dig(name, *keys) = keys.empty? ? self[name] : self[name]&.dig(*keys)

    # @param name [String, Symbol]
    # @return [Boolean] whether it is an earlier step
    def key?(name) = @included.key?(name.to_s) || @deferred.include?(name.to_s) || names.include?(name.to_s)

    # Loads all results into memory: where they may be long together, read one after the other.
    # @return [Hash{String => Hash, nil}] by step
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

    # @return [Array<String>] names of all earlier steps
    def names = @names ||= @ancestors.call([], nil).fetch("names")

    # @return [Integer] number of earlier steps
    def size = names.size

    # Omits the results, which may be long and do not belong in an error's message.
    # @return [String]
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
