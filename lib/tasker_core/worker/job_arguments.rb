# frozen_string_literal: true

module TaskerCore
  class Worker
    # The arguments of a step's job: the values of its paths, in the form in which Active Job stores arguments in a
    # queue. Rust has checked the paths (ext/orchestrator/src/workflow/job.rs).
    #
    # @api private
    class JobArguments
      # The member of `config` that has the arguments.
      KEY = "$arguments"
      # `{"$global_id": "$.input.order"}` is a record.
      GLOBAL_ID = "$global_id"
      # Names with which Active Job marks stored Hashes.
      INDIFFERENT = "_aj_hash_with_indifferent_access"
      KEYWORDS = "_aj_ruby2_keywords"
      RECORD = "_aj_globalid"
      PART = /\.([^.\[\]]+)|\[(\d+)\]|\["([^"]*)"\]/
      ESCAPED = /\A\$(?=\$+\.)/
      private_constant :KEY, :GLOBAL_ID, :INDIFFERENT, :KEYWORDS, :RECORD, :PART, :ESCAPED

      # @param type [Class<ActiveJob::Base>]
      # @return [Boolean] whether its `perform` has keyword arguments: then the last object becomes them
      def self.keywords?(type)
        type.instance_method(:perform).parameters.any? { |kind, _| %i[key keyreq keyrest].include?(kind) }
      end

      # @param context [StepContext]
      # @param type [Class<ActiveJob::Base>]
      def initialize(context, type)
        @context = context
        @type = type
      end

      # @return [Array]
      # @raise [PermanentError] when a path finds nothing, or a value cannot be an argument
      def serialized
        declared = @context.config[KEY]
        return [] if declared.nil?
        return [keywords(declared)] if declared.is_a?(Hash)

        *others, last = declared
        return declared.map { |argument| read(argument) } unless keywords?(last)

        [*others.map { |argument| read(argument) }, keywords(last)]
      end

      private

      def keywords?(argument)
        argument.is_a?(Hash) && !argument.key?(GLOBAL_ID) && self.class.keywords?(@type)
      end

      def keywords(members) = marked(members, KEYWORDS, members.keys)

      def read(argument)
        case argument
        when Hash then argument.key?(GLOBAL_ID) ? record(argument) : marked(argument, INDIFFERENT, true)
        when Array then argument.map { |item| read(item) }
        when String then argument.start_with?("$.") ? value(argument) : argument.sub(ESCAPED, "")
        else argument
        end
      end

      def marked(members, mark, value) = members.transform_values { |member| read(member) }.merge(mark => value)

      def record(argument)
        id = read(argument.fetch(GLOBAL_ID))
        return { RECORD => id } if id.is_a?(String) && GlobalID.parse(id)

        invalid!(argument.fetch(GLOBAL_ID), "must be a global id, such as gid://shop/Order/42")
      end

      # Active Job rejects the names that it reserves: with them an input could name any class.
      def value(path)
        found = find(path)
        found = found.with_indifferent_access if found.is_a?(Hash)
        found = found.map { |item| item.is_a?(Hash) ? item.with_indifferent_access : item } if found.is_a?(Array)
        ActiveJob::Arguments.serialize([found.deep_dup]).first
      rescue ActiveJob::SerializationError => e
        invalid!(path, "is not accepted by Active Job: #{e.message}")
      end

      def find(path)
        root, *keys = path.scan(PART).map { |name, index, quoted| index ? index.to_i : name || quoted }
        keys.reduce(root(root, keys)) do |value, key|
          part(value, key) { raise PermanentError.new(missing(path), code: "missing_argument") }
        end
      end

      def root(name, keys)
        case name
        when "input" then @context.input
        when "config" then @context.config.except(KEY)
        when "results" then { keys.first => @context.results[keys.first] }
        end
      end

      def part(value, key, &missing)
        return yield unless value.is_a?(key.is_a?(Integer) ? Array : Hash)

        value.fetch(key, &missing)
      end

      def missing(path) = "the argument #{path} of #{@type.name} finds nothing"

      def invalid!(path, remedy)
        raise PermanentError.new("the argument #{path} of #{@type.name} #{remedy}", code: "invalid_argument")
      end
    end
  end
end
