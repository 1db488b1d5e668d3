# frozen_string_literal: true

module TaskerCore
  module Generators
    # Common to all generators: errors set the exit status, unknown arguments and options are errors, and generated code
    # gets a spec or a test, whichever kind the application has.
    #
    # @api private
    module Generator
      def self.included(base)
        super
        base.check_unknown_options!
        base.define_singleton_method(:exit_on_failure?) { true }
        # Rails drops the arguments after the first option.
        base.define_singleton_method(:strict_args_position?) { |_config| false }
      end

      # @raise [Thor::Error] when there are too many arguments
      def initialize(*)
        super
        raise Thor::Error, "#{args.first}: unexpected argument: #{self.class.banner}" if args.any?
      end

      private

      # Writes `spec.rb.tt` or `test.rb.tt`.
      # @param path [String] below spec or test, without the file's ending
      def generate_test(path, **config)
        kind = rspec? ? "spec" : "test"
        template "#{kind}.rb.tt", File.join(kind, "#{path}_#{kind}.rb"), config
      end

      def rspec? = File.directory?(File.join(destination_root, "spec"))
    end
  end
end
