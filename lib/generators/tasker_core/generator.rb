# frozen_string_literal: true

module TaskerCore
  module Generators
    # What the generators have in common: an error sets the exit status, unknown arguments and options are errors, and what is
    # generated gets its spec or its test, whichever kind the application has.
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

      # @raise [Thor::Error] when there are more arguments than it takes
      def initialize(*)
        super
        raise Thor::Error, "#{args.first}: unexpected argument: #{self.class.banner}" if args.any?
      end

      private

      # Writes `spec.rb.tt` or `test.rb.tt`.
      # @param path [String] below spec or test, without an ending
      def generate_test(path, **config)
        kind = rspec? ? "spec" : "test"
        template "#{kind}.rb.tt", File.join(kind, "#{path}_#{kind}.rb"), config
      end

      def rspec? = File.directory?(File.join(destination_root, "spec"))
    end
  end
end
