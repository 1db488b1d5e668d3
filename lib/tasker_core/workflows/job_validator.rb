# frozen_string_literal: true

module TaskerCore
  module Workflows
    # Checks the jobs of a workflow's steps when it is compiled, so that one that cannot be performed is rejected before
    # a task exists.
    #
    # @api private
    module JobValidator
      NO_ACTIVE_JOB = "needs Active Job: require \"active_job/railtie\", or without Rails \"active_job\""
      private_constant :NO_ACTIVE_JOB

      module_function

      # Compiles a definition.
      # @param definition [Object] with the keys of YAML files
      # @return [Native::CompiledWorkflow]
      # @raise [WorkflowError] with every problem of the definition and of its jobs
      def compile(definition)
        problems = problems(definition)
        begin
          compiled = Bridge.compile(definition)
        rescue WorkflowError => e
          raise if problems.empty?
        end
        return compiled if problems.empty?

        text = problems.map { |problem| line(problem) }.join("; ")
        raise WorkflowError.new(e ? "#{e.message}; #{text}" : "the workflow cannot be compiled: #{text}",
                                facts: { "problems" => [*e&.problems, *problems] }), cause: nil
      end

      # @param definition [Object]
      # @return [Array<Hash{String => String}>] see {Error#problems}
      def problems(definition)
        steps = member(definition, "steps")
        return [] unless steps.is_a?(Array)

        steps.each_with_index.filter_map do |step, index|
          job = member(step, "job")
          problem(step, job, "steps[#{index}]") if job.is_a?(Module) || (job.is_a?(String) && !job.empty?)
        end
      end

      # A class has symbols as keys, a YAML file strings.
      def member(hash, name) = hash.is_a?(Hash) ? hash.fetch(name) { hash[name.to_sym] } : nil

      def problem(step, job, place)
        type = job.is_a?(Module) ? job : job.safe_constantize
        fault = fault(job, type)
        return entry("#{place}.job", job.is_a?(Module) ? job.name : job, fault) if fault

        arguments = member(step, "arguments")
        misfit = misfit(type, arguments)
        entry("#{place}.arguments", arguments, misfit) if misfit
      end

      def entry(field, value, message)
        kind = { Array => "array", Hash => "object", NilClass => "nothing" }.fetch(value.class, "string")
        text = JSON.generate(Support::JsonValue.of(value)).truncate(80)
        { "field" => field, "value" => text, "kind" => kind, "message" => message }
      rescue JSON::JSONError # reported by Bridge.compile
        { "field" => field, "value" => "", "kind" => "nothing", "message" => message }
      end

      def line(problem)
        field, value, kind, message = problem.values_at("field", "value", "kind", "message")
        kind == "nothing" ? "#{field}: #{message}" : "#{field}: #{value} (#{kind}) #{message}"
      end

      def fault(job, type)
        return NO_ACTIVE_JOB unless defined?(ActiveJob::Base)
        return "is not defined: #{remedy(job)}" if type.nil?
        return "is not an Active Job: it must inherit from ActiveJob::Base" unless Worker::JobHandler.job?(type)

        "does not define perform" if type.instance_method(:perform).owner == ActiveJob::Execution
      end

      def remedy(job)
        nearest = Support::Spelling.nearest(job, ActiveJob::Base.descendants.filter_map(&:name))
        nearest ? "did you mean #{nearest}?" : "correct the name, or require the file that defines it"
      end

      # @return [String, nil] why `perform` cannot be called with the arguments
      def misfit(type, arguments)
        names = type.instance_method(:perform).parameters
        signature = "#{type.name}#perform(#{shown(names)})"
        positional, keywords = divided(type, arguments)
        counting(names, positional, signature) || naming(names, keywords, signature)
      end

      def divided(type, arguments)
        return [0, arguments.keys.map(&:to_s)] if arguments.is_a?(Hash)

        *others, last = arguments
        named = Worker::JobArguments.keywords?(type) && last.is_a?(Hash) && member(last, "$global_id").nil?
        named ? [others.size, last.keys.map(&:to_s)] : [Array(arguments).size, []]
      end

      def counting(names, count, signature)
        kinds = names.map(&:first)
        least = kinds.count(:req)
        most = kinds.include?(:rest) ? Float::INFINITY : least + kinds.count(:opt)
        return if count.between?(least, most)

        "has #{count} positional #{'argument'.pluralize(count)}, which #{signature} does not take"
      end

      def naming(names, given, signature)
        kinds = names.group_by(&:first).transform_values { |group| group.map { |_, name| name.to_s } }
        missing = kinds.fetch(:keyreq, []) - given
        return "lacks the keyword #{missing.first} of #{signature}" if missing.any?

        unknown = kinds.key?(:keyrest) ? [] : given - kinds.fetch(:keyreq, []) - kinds.fetch(:key, [])
        "has the keyword #{unknown.first}, which #{signature} does not take" if unknown.any?
      end

      def shown(names)
        forms = { req: "%s", opt: "%s = …", rest: "*%s", keyreq: "%s:", key: "%s: …", keyrest: "**%s" }
        names.filter_map { |kind, name| format(forms[kind], name) if forms.key?(kind) }.join(", ")
      end
      private_class_method :member, :problem, :entry, :line, :fault, :remedy, :misfit, :divided, :counting, :naming,
                           :shown
    end
  end
end
